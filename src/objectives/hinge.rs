//! Hinge (SLiC): a margin of 1 in units of the logit (docs/methods.md, section 15).
//!
//! ```text
//! loss = max(0, 1 - u)
//! ```

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "Hinge (SLiC)",
    paper: "arXiv 2305.10425",
    cost: "1",
    when: "labels that should not be driven to certainty",
    page: "pairwise.md#losses-that-stop",
    ..Entry::of::<Hinge>("hinge")
};

crate::keys! {
    pub struct Hinge {
        beta: BetaRule = BETA_AUTO,
        ; offline: Offline,
    }
}

impl MethodKeys for Hinge {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for Hinge {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        (-pairs.u() + 1.0).relu()
    }
}
