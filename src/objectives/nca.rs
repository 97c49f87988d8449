//! NCA: winner and loser against absolute targets (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(z) - 0.5 log sigma(-z) - 0.5 log sigma(-y)
//! ```

use super::{BETA, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "NCA",
    paper: "arXiv 2402.05369",
    cost: "1",
    when: "winners and losers that should keep absolute places",
    page: "pairwise.md#losses-of-both-images-apart",
    ..Entry::of::<Nca>("nca")
};

crate::keys! {
    pub struct Nca {
        beta: BetaRule = BETA,
        ; offline: Offline,
    }
}

impl MethodKeys for Nca {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for Nca {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let (z, y) = (pairs.z(), pairs.y());
        -z.log_sigmoid() - ((-z).log_sigmoid() + (-y).log_sigmoid()) * 0.5
    }
}
