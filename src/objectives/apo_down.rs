//! APO-down: for winners worse than the model's own pictures, as SDXL on Pick-a-Pic (docs/methods.md, section 15).
//!
//! ```text
//! loss = sigma(z) + 1 - sigma(u)
//! ```

use super::{BETA, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "APO-down",
    paper: "arXiv 2408.06266",
    cost: "1",
    when: "winners that are worse than the model's own pictures",
    page: "pairwise.md#losses-of-both-images-apart",
    ..Entry::of::<ApoDown>("apo_down")
};

crate::keys! {
    pub struct ApoDown {
        beta: BetaRule = BETA,
        ; offline: Offline,
    }
}

impl MethodKeys for ApoDown {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for ApoDown {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        pairs.z().sigmoid() + 1.0 - pairs.u().sigmoid()
    }
}
