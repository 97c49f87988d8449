//! APO-zero: for winners better than the model's own pictures (docs/methods.md, section 15).
//!
//! ```text
//! loss = 1 - sigma(z) + sigma(y)
//! ```

use super::{BETA, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "APO-zero",
    paper: "arXiv 2408.06266",
    cost: "1",
    when: "winners that beat the model's own pictures",
    page: "pairwise.md#losses-of-both-images-apart",
    ..Entry::of::<ApoZero>("apo_zero")
};

crate::keys! {
    pub struct ApoZero {
        beta: BetaRule = BETA,
        ; offline: Offline,
    }
}

impl MethodKeys for ApoZero {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for ApoZero {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        1.0 - pairs.z().sigmoid() + pairs.y().sigmoid()
    }
}
