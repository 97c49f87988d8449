//! NCA: winner and loser against absolute targets (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(z) - 0.5 log sigma(-z) - 0.5 log sigma(-y)
//! ```

use super::{BETA, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "nca",
    keys: &[BETA, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |_| Objective::Pairs(Box::new(Nca)),
};

struct Nca;

impl PairLoss for Nca {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let (z, y) = (pairs.z(), pairs.y());
        -z.log_sigmoid() - ((-z).log_sigmoid() + (-y).log_sigmoid()) * 0.5
    }
}
