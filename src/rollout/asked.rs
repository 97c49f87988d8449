//! Predictions of policy and start model for trajectories: guided, with one call of the sampler per row.

use super::resources::Prompts;
use crate::networks::{Model, Networks};
use anyhow::Result;
use pipelines::sampling::Guidance;
use pipelines::schedulers::{Prediction, StochasticSampler, Transitions, log_prob};
use pipelines::{Conditioning, Levels};
use tch::{Kind, Tensor};

/// Conditioning of an iteration's prompts, on the run's device in the compute type.
pub struct Told {
    /// `[P]`
    pub prompts: Conditioning,
    /// `[1]`: the encoding of "", for the negative side of guidance.
    pub empty: Conditioning,
}

impl Told {
    /// Conditioning of these prompts, for square pictures of `resolution` pixels.
    ///
    /// # Errors
    /// A prompt that was not encoded.
    pub fn of(texts: &[String], networks: &Networks, prompts: &dyn Prompts, resolution: i64) -> Result<Self> {
        let placed =
            |texts: &[&str]| -> Result<_> { Ok(networks.conditioning(&prompts.conditioning(texts)?, resolution)) };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Ok(Told { prompts: placed(&texts)?, empty: placed(&[""])? })
    }
}

/// Networks, schedule and guidance of a rollout.
pub struct Asked<'a> {
    pub networks: &'a Networks,
    pub sampler: &'a dyn StochasticSampler,
    pub guidance_scale: f64,
    pub told: &'a Told,
}

/// Sampling of a run's trajectories, and the embeddings of the iteration's prompts.
#[derive(Clone, Copy)]
pub struct Guided<'a> {
    pub sampler: &'a dyn StochasticSampler,
    pub guidance_scale: f64,
    pub told: &'a Told,
}

impl Guided<'_> {
    pub fn asked<'b>(&'b self, networks: &'b Networks) -> Asked<'b> {
        Asked { networks, sampler: self.sampler, guidance_scale: self.guidance_scale, told: self.told }
    }
}

/// States of trajectories: latents, call and prompt.
pub struct At<'a> {
    /// `[B, C, h, w]` float32 on the run's device
    pub latents: &'a Tensor,
    /// Calls of the sampler, `B`.
    pub calls: &'a [usize],
    /// Rows of [`Told::prompts`], `B`.
    pub prompts: &'a [usize],
}

impl Asked<'_> {
    /// The policy's guided prediction, `[B, C, h, w]` float64, with its graph where one is recorded.
    pub fn policy(&self, at: &At) -> Result<Tensor> {
        self.predict(Model::Policy, at)
    }

    /// The start model's, without a graph.
    pub fn start(&self, at: &At) -> Result<Tensor> {
        self.predict(Model::Start, at)
    }

    fn predict(&self, model: Model, at: &At) -> Result<Tensor> {
        let device = self.networks.machine.device;
        let grid = self.sampler.timesteps();
        let levels: Vec<f64> = at.calls.iter().map(|call| grid[*call]).collect();
        let levels = Levels::new(&levels).to(device);
        let rows: Vec<i64> = at.prompts.iter().map(|prompt| *prompt as i64).collect();
        let index = Tensor::from_slice(&rows).to_device(device);
        let positive = self.told.prompts.select(&index);
        let negative = self.told.empty.select(&index.zeros_like());
        let guidance = Guidance::of_scale(self.guidance_scale);
        self.networks.guided(model, at.latents, &levels, [&positive, &negative], guidance)
    }

    /// Distribution of the next state after a prediction `[B, C, h, w]` float64.
    pub fn transitions(&self, at: &At, noise_pred: &Tensor) -> Transitions {
        let prediction = Prediction::from(noise_pred.shallow_clone());
        self.sampler.transitions(at.calls, &prediction, &at.latents.to_kind(Kind::Double))
    }

    /// log p(next | latents) of a prediction, `[B]` float64. Not valid for a call without noise.
    pub fn log_prob(&self, at: &At, noise_pred: &Tensor, next: &Tensor) -> Tensor {
        let Transitions { mean, std } = self.transitions(at, noise_pred);
        log_prob(&mean, &std, &next.to_kind(Kind::Double))
    }
}
