//! Hinge (SLiC): a margin of 1 in units of the logit (docs/methods.md, section 15).
//!
//! ```text
//! loss = max(0, 1 - u)
//! ```

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "hinge",
    keys: &[BETA_AUTO, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |_| Objective::Pairs(Box::new(Hinge)),
};

struct Hinge;

impl PairLoss for Hinge {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        (-pairs.u() + 1.0).relu()
    }
}
