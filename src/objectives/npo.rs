//! Diffusion-NPO: "Negative Preference Optimization for Better Preference Aligned Generation of Diffusion Models", arXiv
//! 2505.11245 (docs/methods.md, section 6): DPO on swapped labels. The model learns what people do not want, for the
//! negative side of guidance.
//!
//! ```text
//! loss = -log sigma(u)   with the loser of the data as winner
//! ```
//!
//! Ties are dropped, although the public script trains on them. beta 1000 here is the 500 of its SD1.5 script, whose
//! logit has no factor 0.5.

use super::dpo::Dpo;
use super::{BETA_AUTO, ERROR, Entry, NO_PROMPT_DROPOUT, Needs, Objective};
use crate::keys::{Default, Key};

const BETA: Key = Key { default: Default::ByFamily("1000.0"), ..BETA_AUTO };

pub const ENTRY: Entry = Entry {
    name: "npo",
    keys: &[BETA, NO_PROMPT_DROPOUT, ERROR],
    needs: Needs { swapped: true, ..Needs::PAIRS },
    build: |_| Objective::Pairs(Box::new(Dpo)),
};
