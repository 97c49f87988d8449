//! SPO: "Aesthetic Post-Training Diffusion Models from Generic Preferences with Step-by-step Preference Optimization",
//! arXiv 2406.04314 (docs/methods.md, section 10b).
//!
//! ```text
//! from one x_t: candidates x_p, each with the score s of the picture it leads to; the best and the worst are a pair where
//!     tanh((s_best - s_worst) / 2) > threshold
//! loss = -log sigma(beta log rho_best - beta log rho_worst),   log rho as d3po holds it
//! ```
//!
//! The trajectory continues from a random candidate: with the best one the publication reports far worse models.

use super::bounds::RATIO_CLAMP;
use super::d3po::PairedSteps;
use super::{BETA, BetaRule, Candidates, Entry, Method, MethodKeys, Needs, Rollouts, Units};
use crate::keys::Key;

pub const ENTRY: Entry = Entry {
    title: "SPO",
    paper: "arXiv 2406.04314",
    cost: "up to 2300 an iteration",
    when: "first of those that sample: the best published results",
    page: "spo.md",
    ..Entry::of::<Spo>("spo")
};

pub const SPO_BETA: Key = BETA.or("10.0");

crate::keys! {
    pub struct Spo {
        beta: BetaRule = SPO_BETA,
        clamp: f64 = RATIO_CLAMP,
        ; candidates: Candidates,
    }
}

impl MethodKeys for Spo {
    fn method(self) -> Method {
        Method::steps(needs(self.beta, self.candidates), PairedSteps::new(self.clamp))
    }
}

/// Pairs of candidates along one trajectory of a prompt.
pub fn needs(beta: BetaRule, candidates: Candidates) -> Needs {
    let units = Units::Candidates(candidates);
    Needs { beta: Some(beta), ..Needs::sampling(Rollouts { units, trajectories: 1, ..Rollouts::STEPWISE }) }
}

/// Best and worst of `scores` (the first ones among equals), where the difference of their probabilities
/// sigma(gap) - sigma(-gap) = tanh(gap / 2) is above `threshold`; `None`: too close to call.
pub fn best_and_worst(scores: &[f64], threshold: f64) -> Option<[usize; 2]> {
    let first = |better: fn(f64, f64) -> bool| {
        (0..scores.len()).reduce(|kept, k| if better(scores[k], scores[kept]) { k } else { kept })
    };
    let (best, worst) = (first(|a, b| a > b)?, first(|a, b| a < b)?);
    (((scores[best] - scores[worst]) / 2.0).tanh() > threshold).then_some([best, worst])
}
