//! RPO: DPO with a supervised pull on the winner, arXiv 2405.16436 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(u) + eta 0.5 beta e_theta(w)
//! ```
//!
//! The supervised term is not weighted by lambda(t).

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "RPO",
    paper: "arXiv 2405.16436",
    cost: "1",
    when: "both gaps grow under dpo",
    page: "pairwise.md#losses-that-hold-the-winner",
    ..Entry::of::<Rpo>("rpo")
};

crate::keys! {
    pub struct Rpo {
        beta: BetaRule = BETA_AUTO,
        /// weight of the supervised term
        eta: f64 = within(Range::NOT_NEGATIVE).or("0.005"),
        ; offline: Offline,
    }
}

impl MethodKeys for Rpo {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for Rpo {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        -pairs.u().log_sigmoid() + pairs.theta_w() * (0.5 * self.eta * step.beta)
    }
}
