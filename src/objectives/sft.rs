//! Supervised fine-tuning on the winners: the plain denoising loss (docs/methods.md, section 15).
//!
//! ```text
//! loss = e_theta(w)      in the model's own parameterisation
//! ```
//!
//! The loser takes no part in training; validation still measures both images.

use super::{ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "sft",
    keys: &[PROMPT_DROPOUT, ERROR],
    needs: Needs { reference: false, loser: false, timestep_weighting: false, ..Needs::PAIRS },
    build: |_| Objective::Pairs(Box::new(Sft)),
};

struct Sft;

impl PairLoss for Sft {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        pairs.native_w().shallow_clone()
    }
}
