//! APO-down: for winners that are worse than what the model makes itself, as SDXL on Pick-a-Pic (docs/methods.md,
//! section 15).
//!
//! ```text
//! loss = sigma(z) + 1 - sigma(u)
//! ```

use super::{BETA, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "apo_down",
    keys: &[BETA, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |_| Objective::Pairs(Box::new(ApoDown)),
};

struct ApoDown;

impl PairLoss for ApoDown {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        pairs.z().sigmoid() + 1.0 - pairs.u().sigmoid()
    }
}
