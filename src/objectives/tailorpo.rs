//! TailorPO: "Refining Alignment Framework for Diffusion Models with Intermediate-Step Preference Ranking", arXiv 2502.01667
//! (docs/methods.md, section 10d). Only its abstract is public to us: the form is believed, beta and clamp are ours.
//!
//! ```text
//! spo with two candidates at every step, scored by a judge of pictures, and any gap a pair
//! ```

use super::bounds::RATIO_CLAMP;
use super::spo::{CANDIDATES, DENOISE_AHEAD, ROLLOUTS, SKIP_STEPS, SPO_BETA, THRESHOLD};
use super::{Entry, Needs, d3po};
use crate::keys::{Default, Key};

pub const ENTRY: Entry = Entry {
    name: "tailorpo",
    keys: &[
        SPO_BETA,
        RATIO_CLAMP,
        Key { default: Default::Toml("2"), ..CANDIDATES },
        Key { default: Default::Toml("0.0"), ..THRESHOLD },
        Key { default: Default::Toml("0"), ..SKIP_STEPS },
        Key { default: Default::Toml("0"), ..DENOISE_AHEAD },
    ],
    needs: Needs::sampling(ROLLOUTS),
    build: d3po::build,
};
