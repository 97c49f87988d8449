//! FocalPO: pairs that are ordered correctly already weigh more, arXiv 2501.06645 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -sg(p)^g log sigma(u),   p = sigma(u)
//! ```
//!
//! p^g is a loss weight and detached: undetached it would push the wrong way where p is small.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "FocalPO",
    paper: "arXiv 2501.06645",
    cost: "1",
    when: "pairs of very different worth",
    page: "pairwise.md#losses-that-weigh-pairs",
    ..Entry::of::<Focalpo>("focalpo")
};

crate::keys! {
    pub struct Focalpo {
        beta: BetaRule = BETA_AUTO,
        /// focus; 0 is dpo
        g: f64 = within(Range::NOT_NEGATIVE).or("0.05"),
        ; offline: Offline,
    }
}

impl MethodKeys for Focalpo {
    fn method(self) -> Method {
        Method::pairs(Needs { weights: true, ..Needs::pairs(self.beta, self.offline) }, self)
    }
}

impl PairLoss for Focalpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        -pairs.u().log_sigmoid()
    }

    fn weights(&self, pairs: &Pairs, _: &Step) -> Option<Tensor> {
        Some(pairs.u().sigmoid().pow_tensor_scalar(self.g))
    }
}
