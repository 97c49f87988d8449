//! Diffusion-DPO: "Diffusion Model Alignment Using Direct Preference Optimization", arXiv 2311.12908, in the form its
//! public training code computes (docs/methods.md, section 1).
//!
//! ```text
//! u = 0.5 beta h,   h = (e_ref(w) - e_theta(w)) - (e_ref(l) - e_theta(l))
//! loss = -log sigma(u)
//! ```
//!
//! The paper lets winner and loser have their own noise; its code, and we, share noise and timestep in a pair.

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "dpo",
    keys: &[BETA_AUTO, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |_| Objective::Pairs(Box::new(Dpo)),
};

/// Also the loss of methods that differ from DPO only in their inputs.
pub struct Dpo;

impl PairLoss for Dpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        -pairs.u().log_sigmoid()
    }
}
