//! IPO: "A General Theoretical Paradigm to Understand Learning from Human Preferences", arXiv 2310.12036, in the
//! scaled form (docs/methods.md, section 15).
//!
//! ```text
//! loss = (u - 1/2)^2
//! ```
//!
//! The target is absolute: with beta 5000 typical |u| is 0.05 to 0.5, where this is almost linear.

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "ipo",
    keys: &[BETA_AUTO, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |_| Objective::Pairs(Box::new(Ipo)),
};

struct Ipo;

impl PairLoss for Ipo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        (pairs.u() - 0.5).square()
    }
}
