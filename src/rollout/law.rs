//! How a method makes units of trajectories, as its configuration says, and what leaves nothing to train on.

use super::Rollout;
use super::candidates::CandidateLaw;
use super::lists::ListLaw;
use crate::objectives::advantages::Advantages;
use crate::objectives::{Candidates, Lists, Units};
use crate::settings::{ConfigError, RolloutConfig};
use anyhow::{Result, bail};
use pipelines::schedulers::StochasticSampler;

/// How a method makes units of trajectories.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    Steps,
    Trajectories,
    Candidates(CandidateLaw),
    Lists(ListLaw),
}

impl Law {
    /// Of units of this kind.
    pub fn of(units: Units, rollout: &RolloutConfig, sampler: &dyn StochasticSampler) -> Self {
        match units {
            Units::Steps { .. } => Law::Steps,
            Units::Trajectories => Law::Trajectories,
            Units::Candidates(Candidates { candidates, threshold, skip_steps, denoise_ahead }) => {
                Law::Candidates(CandidateLaw { candidates, threshold, skip_steps, denoise_ahead })
            }
            Units::Lists(Lists { gamma, sampled_steps, trajectories_per_loss }) => Law::Lists(ListLaw {
                prompts: rollout.prompts_per_iteration,
                trajectories: rollout.trajectories,
                trajectories_per_loss,
                calls: sampler.noisy_calls(),
                gamma,
                sampled_steps,
            }),
        }
    }

    /// Calls at the beginning whose steps are not trained.
    fn skipped(self) -> usize {
        match self {
            Law::Candidates(law) => law.skip_steps,
            _ => 0,
        }
    }
}

impl Rollout {
    pub(super) fn why_nothing_is_kept(&self) -> &'static str {
        match self.law {
            Law::Candidates(_) => {
                "no candidates of a step were further apart than method.threshold. Look at [reward], and lower the threshold; more candidates or another seed may help too."
            }
            _ => {
                "all rewards of every prompt were equal. Look at [reward]; more trajectories or another seed may help too."
            }
        }
    }

    /// The last call of a sampler may add no noise: such a step has no probability to train.
    pub(super) fn refuse_without_steps(&self) -> Result<()> {
        let skipped = self.law.skipped();
        if self.sampler.noisy_calls() > skipped {
            return Ok(());
        }
        let remedy = if skipped > 0 { "Raise rollout.steps or lower method.skip_steps" } else { "Raise rollout.steps" };
        bail!(ConfigError(format!(
            "rollout.steps = {}: the last step of this model's sampler adds no noise, so no step is left to train on. {remedy}.",
            self.config.steps
        )));
    }
}

/// Of a method that compares rewards with earlier ones: nothing so far.
pub fn advantages(units: Units) -> Option<Advantages> {
    match units {
        Units::Steps { buffer } => Some(Advantages::new(buffer)),
        Units::Trajectories | Units::Candidates(_) | Units::Lists(_) => None,
    }
}
