//! Supervised fine-tuning on the winners: the plain denoising loss (docs/methods.md, section 15).
//!
//! ```text
//! loss = e_theta(w)      in the model's own parameterisation
//! ```
//!
//! The loser takes no part in training; validation still measures both images.

use super::{ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairErrors, StepContext};
use tch::Tensor;

const NEEDS: Needs = Needs { reference: false, loser: false, timestep_weighting: false, ..Needs::PAIRS };

pub const ENTRY: Entry = Entry { name: "sft", keys: &[PROMPT_DROPOUT, ERROR], needs: NEEDS, build: |_| Box::new(Sft) };

struct Sft;

impl Objective for Sft {
    fn needs(&self) -> Needs {
        NEEDS
    }

    fn losses(&self, errors: &PairErrors, _: &StepContext) -> Tensor {
        errors.theta_w.shallow_clone()
    }

    fn logits(&self, _: &PairErrors, _: &StepContext) -> Option<Tensor> {
        None
    }
}
