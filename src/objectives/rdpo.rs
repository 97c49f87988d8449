//! rDPO: an unbiased estimate of the DPO loss under label noise, arXiv 2403.00409 (docs/methods.md, section 15).
//!
//! ```text
//! loss = [ -(1 - e) log sigma(u) + e log sigma(-u) ] / (1 - 2 e),   e = label_noise < 1/2
//! ```
//!
//! The loss has no lower bound; u is clamped at 10, without gradient above.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

/// Upper bound of u.
const MOST_U: f64 = 10.0;

pub const ENTRY: Entry = Entry {
    title: "rDPO",
    paper: "arXiv 2403.00409",
    cost: "1",
    when: "a known share of wrong labels",
    page: "pairwise.md#labels-that-are-wrong",
    ..Entry::of::<Rdpo>("rdpo")
};

/// [0, 1/2)
const BELOW_HALF: Range = Range { low: 0.0, high: 0.5, low_open: false, high_open: true };

crate::keys! {
    pub struct Rdpo {
        beta: BetaRule = BETA_AUTO,
        /// share of the labels that is wrong, below one half
        label_noise: f64 = within(BELOW_HALF).or("0.1"),
        ; offline: Offline,
    }
}

impl MethodKeys for Rdpo {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for Rdpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let u = pairs.u().clamp_max(MOST_U);
        let e = self.label_noise;
        (u.log_sigmoid() * (e - 1.0) + (-u).log_sigmoid() * e) / (1.0 - 2.0 * e)
    }
}
