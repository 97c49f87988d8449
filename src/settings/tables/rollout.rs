//! [rollout]: what methods that sample while they train start from, and how they sample.

use super::train::{PORTION, STEPS};
use crate::keys::OnResume::{Rounding, SameContent};
use crate::keys::{Auto, Kind, Range, of, one_of, switch, whole, within};
use crate::objectives::{Rollouts, Units};
use crate::settings::facts::{Facts, Refusal};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// rollout.prompts_per_iteration, if there are as many.
const PROMPTS_PER_ITERATION: usize = 8;

crate::choice! {
    /// `[rollout] buffer`
    pub enum Buffer {
        Memory = "memory",
        Disk = "disk",
    }
}

/// Prompts in the configuration itself, or a file of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompts {
    List(Vec<String>),
    File(PathBuf),
}

crate::keys! {
    pub struct Starts {
        /// what the method samples pictures of: a list of prompts, or a file of them
        prompts: Prompts = of(Kind::TextsOrFile).required().on_resume(SameContent),
        /// default: 8, or all if there are fewer
        prompts_per_iteration: Option<usize> = PORTION,
    }
}

crate::keys! {
    pub struct Parsed {
        /// per prompt and iteration; default: the method's; d3po: exactly 2; grpo: at least 4
        trajectories: Option<usize> = PORTION,
        /// DDIM steps per trajectory; default: the method's
        steps: Option<i64> = whole(1, 1000),
        /// share of DDPM's noise per step, above 0; default: the method's
        eta: Option<f64> = within(Range::UNIT),
        /// trajectories of a prompt start from one noise, so that their rewards differ by their steps alone; auto: d3po and grpo
        shared_noise: Auto<bool> = switch().or_auto(),
        /// guidance scale of the trajectories; default: the method's
        guidance_scale: Option<f64> = within(Range::NOT_NEGATIVE),
        /// steps before new pictures; auto: one pass over what was kept, dense-reward 4000
        updates_per_iteration: Auto<u64> = STEPS.or_auto(),
        /// place of the kept transitions of an iteration
        buffer: Buffer = one_of::<Buffer>().or_text("memory").on_resume(Rounding),
        /// trajectories that are sampled together
        batch: usize = PORTION.or("8").on_resume(Rounding),
    }
}

/// How trajectories are sampled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trajectories {
    /// Number per prompt and iteration.
    pub trajectories: usize,
    pub steps: i64,
    pub eta: f64,
    pub guidance_scale: f64,
    /// All trajectories of a prompt start from one noise; `None`: as the method says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_noise: Option<bool>,
    /// `None`: one pass over the kept units.
    pub updates_per_iteration: Option<u64>,
    pub buffer: Buffer,
    /// Trajectories per forward pass.
    pub batch: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RolloutConfig {
    pub prompts: Prompts,
    pub prompts_per_iteration: usize,
    /// `None`: the method samples only where it starts.
    #[serde(flatten)]
    pub sampled: Option<Trajectories>,
}

impl Parsed {
    /// With what the method samples by where the file does not say.
    pub(in crate::settings) fn trajectories(&self, rollouts: &Rollouts) -> Trajectories {
        let rules = rollouts.units.rules();
        Trajectories {
            trajectories: self.trajectories.unwrap_or(rollouts.trajectories as usize),
            steps: self.steps.unwrap_or(rollouts.steps),
            eta: self.eta.unwrap_or(rollouts.eta),
            guidance_scale: self.guidance_scale.unwrap_or(rollouts.guidance_scale),
            shared_noise: self.shared_noise.given(),
            updates_per_iteration: self.updates_per_iteration.given().or(rules.updates),
            buffer: self.buffer,
            batch: self.batch,
        }
    }
}

impl Starts {
    pub(in crate::settings) fn resolve(
        &self,
        sampled: Option<Trajectories>,
        facts: &Facts,
    ) -> Result<RolloutConfig, Refusal> {
        let prompts_per_iteration = self.prompts_per_iteration.unwrap_or(facts.prompts.min(PROMPTS_PER_ITERATION));
        if prompts_per_iteration > facts.prompts {
            return Err(format!(
                "rollout.prompts_per_iteration = {prompts_per_iteration}: expected at most {}, the prompts of rollout.prompts. Lower it, or give more prompts.",
                facts.prompts
            ));
        }
        if let Some(Trajectories { steps, .. }) = sampled.as_ref().filter(|sampled| sampled.steps > facts.timesteps) {
            return Err(format!(
                "rollout.steps = {steps}: expected at most {}, the timesteps of this model.",
                facts.timesteps
            ));
        }
        Ok(RolloutConfig { prompts: self.prompts.clone(), prompts_per_iteration, sampled })
    }
}

impl RolloutConfig {
    /// Updates of the weights in an iteration with so many units an update; `None`: only known once its pictures are rated.
    pub(in crate::settings) fn updates(&self, units: Option<Units>, per_step: f64) -> Option<f64> {
        let prompts = self.prompts_per_iteration as f64;
        let Some((sampled, units)) = self.sampled.as_ref().zip(units) else {
            return Some((prompts / per_step).ceil());
        };
        if let Some(updates) = sampled.updates_per_iteration {
            return Some(updates as f64);
        }
        let count = units.rules().count?;
        Some((count(prompts, sampled.trajectories as f64, sampled.steps as f64) / per_step).ceil())
    }
}
