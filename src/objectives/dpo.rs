//! Diffusion-DPO: "Diffusion Model Alignment Using Direct Preference Optimization", arXiv 2311.12908, in the form its
//! public training code computes (docs/methods.md, section 1).
//!
//! ```text
//! u = 0.5 beta h,   h = (e_ref(w) - e_theta(w)) - (e_ref(l) - e_theta(l))
//! loss = -log sigma(u)
//! ```
//!
//! The paper lets winner and loser have their own noise; its code, and we, share noise and timestep in a pair.

use super::{ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairErrors, StepContext};
use crate::config::schema::{Default, Kind, Range, auto};
use tch::Tensor;

const NEEDS: Needs = Needs { auto_beta: true, ..Needs::PAIRS };

pub const ENTRY: Entry = Entry {
    name: "dpo",
    keys: &[
        auto("beta", Kind::Real(Range::POSITIVE), Default::Toml("5000.0"), "strength of the pull to the reference"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: NEEDS,
    build: |_| Box::new(Dpo),
};

struct Dpo;

impl Objective for Dpo {
    fn needs(&self) -> Needs {
        NEEDS
    }

    fn losses(&self, errors: &PairErrors, step: &StepContext) -> Tensor {
        match self.logits(errors, step) {
            Some(u) => -u.log_sigmoid(),
            None => unreachable!("the trainer supplies what `needs` asks for"),
        }
    }

    fn logits(&self, errors: &PairErrors, step: &StepContext) -> Option<Tensor> {
        Some(errors.h()? * (0.5 * step.beta))
    }
}
