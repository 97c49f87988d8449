//! SPPO with hard labels, in the scaled form (docs/methods.md, section 15).
//!
//! ```text
//! loss = (z - 1/2)^2 + (y + 1/2)^2
//! ```

use super::{BETA, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "sppo_hard",
    keys: &[BETA, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |_| Objective::Pairs(Box::new(SppoHard)),
};

struct SppoHard;

impl PairLoss for SppoHard {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        (pairs.z() - 0.5).square() + (pairs.y() + 0.5).square()
    }
}
