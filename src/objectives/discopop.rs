//! DiscoPOP: a blend of logistic and exponential loss, found by a search (docs/methods.md, section 15).
//!
//! ```text
//! m = sigma(u / tau)
//! loss = (1 - m) (-log sigma(u)) + m e^(-u)
//! ```
//!
//! m is not detached. m e^(-u) is computed as exp(log sigma(u / tau) - u), which does not overflow.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "DiscoPOP",
    paper: "arXiv 2406.08414",
    cost: "1",
    when: "a loss that a search found",
    page: "pairwise.md#discopop",
    ..Entry::of::<Discopop>("discopop")
};

crate::keys! {
    pub struct Discopop {
        beta: BetaRule = BETA_AUTO,
        /// width of the blend
        tau: f64 = within(Range::POSITIVE).or("0.05"),
        ; offline: Offline,
    }
}

impl MethodKeys for Discopop {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for Discopop {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let u = pairs.u();
        let scaled = &u / self.tau;
        (-&scaled).sigmoid() * -u.log_sigmoid() + (scaled.log_sigmoid() - &u).exp()
    }
}
