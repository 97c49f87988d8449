//! SPO: "Aesthetic Post-Training Diffusion Models from Generic Preferences with Step-by-step Preference Optimization",
//! arXiv 2406.04314 (docs/methods.md, section 10b).
//!
//! ```text
//! from one x_t: candidates x_p, each with the score s of the picture it leads to; the best and the worst are a pair where
//!     tanh((s_best - s_worst) / 2) > threshold
//! loss = -log sigma(beta log rho_best - beta log rho_worst),   log rho as d3po holds it
//! ```
//!
//! The trajectory goes on from a candidate drawn at random: from the best one the publication reports far worse models.

use super::bounds::RATIO_CLAMP;
use super::{BETA, Entry, Needs, Other, Rollouts, Units, d3po};
use crate::keys::{Default, Key, Kind, Range, key};

pub const SPO_BETA: Key = Key { default: Default::Toml("10.0"), ..BETA };
pub const CANDIDATES: Key = key(
    "candidates",
    Kind::Int { min: 2, max: 64 },
    Default::ByFamily("4"),
    "how many x_p are drawn from one x_t to choose best and worst from",
);
pub const THRESHOLD: Key = key(
    "threshold",
    Kind::Real(Range::FRACTION),
    Default::ByFamily("0.3"),
    "a pair is kept if tanh of half the gap of its scores is above this",
);
pub const SKIP_STEPS: Key = key(
    "skip_steps",
    Kind::Int { min: 0, max: 1000 },
    Default::Toml("4"),
    "first, noisiest steps of a trajectory without candidates",
);
pub const DENOISE_AHEAD: Key = key(
    "denoise_ahead",
    Kind::Int { min: 0, max: 1000 },
    Default::ByFamily("0"),
    "steps that a candidate is denoised further before it is scored",
);
/// Pairs of candidates along one trajectory of a prompt.
pub const ROLLOUTS: Rollouts =
    Rollouts { units: Units::Candidates, other: Other::Start, trajectories: 1, ..Rollouts::STEPWISE };

pub const ENTRY: Entry = Entry {
    name: "spo",
    keys: &[SPO_BETA, RATIO_CLAMP, CANDIDATES, THRESHOLD, SKIP_STEPS, DENOISE_AHEAD],
    needs: Needs::sampling(ROLLOUTS),
    build: d3po::build,
};

/// Best and worst of `scores` (the first ones among equals), where the difference of their probabilities
/// sigma(gap) - sigma(-gap) = tanh(gap / 2) is above `threshold`; `None`: too close to call.
pub fn best_and_worst(scores: &[f64], threshold: f64) -> Option<[usize; 2]> {
    let first = |better: fn(f64, f64) -> bool| {
        (0..scores.len()).reduce(|kept, k| if better(scores[k], scores[kept]) { k } else { kept })
    };
    let (best, worst) = (first(|a, b| a > b)?, first(|a, b| a < b)?);
    (((scores[best] - scores[worst]) / 2.0).tanh() > threshold).then_some([best, worst])
}
