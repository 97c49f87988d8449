//! SPPO with hard labels, in the scaled form (docs/methods.md, section 15).
//!
//! ```text
//! loss = (z - 1/2)^2 + (y + 1/2)^2
//! ```

use super::{BETA, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "SPPO, hard labels",
    paper: "arXiv 2405.00675",
    cost: "1",
    when: "winners and losers that should keep absolute places",
    page: "pairwise.md#losses-of-both-images-apart",
    ..Entry::of::<SppoHard>("sppo_hard")
};

crate::keys! {
    pub struct SppoHard {
        beta: BetaRule = BETA,
        ; offline: Offline,
    }
}

impl MethodKeys for SppoHard {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for SppoHard {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        (pairs.z() - 0.5).square() + (pairs.y() + 0.5).square()
    }
}
