//! DPO-Shift: a smaller weight of the loser protects the winner, arXiv 2502.07599 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(z - lam y),   lam fixed, or lam + (lam_end - lam) s / steps at step s
//! ```

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "DPO-Shift",
    paper: "arXiv 2502.07599",
    cost: "1",
    when: "both gaps grow under dpo",
    page: "pairwise.md#losses-that-hold-the-winner",
    ..Entry::of::<DpoShift>("dpo_shift")
};

crate::keys! {
    pub struct DpoShift {
        beta: BetaRule = BETA_AUTO,
        /// weight of the loser in the logit
        lam: f64 = within(Range::NOT_NEGATIVE).or("0.75"),
        /// where lam has moved by the last step
        lam_end: Option<f64> = within(Range::NOT_NEGATIVE),
        ; offline: Offline,
    }
}

impl MethodKeys for DpoShift {
    fn method(self) -> Method {
        Method::pairs(Needs { ramp: self.lam_end.is_some(), ..Needs::pairs(self.beta, self.offline) }, self)
    }
}

impl PairLoss for DpoShift {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        let done = step.number as f64 / step.steps as f64;
        let lam = self.lam + (self.lam_end.unwrap_or(self.lam) - self.lam) * done;
        -(pairs.z() - pairs.y() * lam).log_sigmoid()
    }
}
