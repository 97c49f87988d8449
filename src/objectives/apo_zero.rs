//! APO-zero: for winners that are better than what the model makes itself (docs/methods.md, section 15).
//!
//! ```text
//! loss = 1 - sigma(z) + sigma(y)
//! ```

use super::{BETA, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "apo_zero",
    keys: &[BETA, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |_| Objective::Pairs(Box::new(ApoZero)),
};

struct ApoZero;

impl PairLoss for ApoZero {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        1.0 - pairs.z().sigmoid() + pairs.y().sigmoid()
    }
}
