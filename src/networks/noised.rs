//! Noisy latents with their targets, and residuals of predictions.

use super::machine::Machine;
use anyhow::{Context, Result};
use pipelines::families::Denoiser;
use pipelines::models::AdapterSet;
use pipelines::{Conditioning, Levels};
use tch::{Kind, Tensor};

/// Mean over C, H, W of a product: `[R, C, h, w]` twice to `[R]`.
pub fn mean_product(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).mean_dim([1i64, 2, 3].as_slice(), false, None::<Kind>)
}

/// Mean over C, H, W of the square: `[R, C, h, w]` to `[R]`.
pub fn mean_square(residuals: &Tensor) -> Tensor {
    residuals.square().mean_dim([1i64, 2, 3].as_slice(), false, None::<Kind>)
}

/// Parameterisation of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// The network's own parameterisation.
    Native,
    /// Noise, for every prediction type.
    Epsilon,
}

/// Noisy latents with their targets.
pub struct Noised {
    /// `[R, C, h, w]`, compute kind
    pub latents: Tensor,
    /// `[R, C, h, w]`, master kind
    pub target: Tensor,
    /// `[R]`
    pub levels: Levels,
    pub conditioning: Conditioning,
    pub space: Space,
}

impl Noised {
    /// Noises `latents` `[R, C, h, w]` (float32, any device) on the run's device.
    pub fn new(
        denoiser: &Denoiser,
        machine: Machine,
        latents: &Tensor,
        noise: &Tensor,
        levels: &Levels,
        conditioning: &Conditioning,
    ) -> Self {
        let place = |t: &Tensor| t.to_device(machine.device).to_kind(machine.master);
        let (clean, noise) = (place(latents), place(noise));
        let levels = levels.to(machine.device);
        let target = denoiser.process.target(&clean, &noise, &levels);
        let noisy = denoiser.process.add_noise(&clean, &noise, &levels).to_kind(machine.compute);
        let conditioning = conditioning.to(machine.device, machine.compute);
        let target = target.to_kind(machine.master);
        Self { latents: noisy, target, levels, conditioning, space: Space::Native }
    }

    /// Some of the rows.
    pub fn select(&self, rows: &[i64]) -> Self {
        let index = Tensor::from_slice(rows).to_device(self.latents.device());
        let take = |t: &Tensor| t.index_select(0, &index);
        Self {
            latents: take(&self.latents),
            target: take(&self.target),
            levels: self.levels.select(&index),
            conditioning: self.conditioning.map(take),
            space: self.space,
        }
    }

    /// Prediction minus target, `[R, C, h, w]`, master kind.
    pub fn residuals(&self, denoiser: &Denoiser, adapters: Option<AdapterSet>) -> Result<Tensor> {
        let noise_pred = denoiser
            .predict(&self.latents, &self.levels, &self.conditioning, adapters)
            .context("the network refused a batch")?
            .to_kind(self.target.kind());
        let noise_pred = match self.space {
            Space::Native => noise_pred,
            Space::Epsilon => {
                let latents = self.latents.to_kind(self.target.kind());
                denoiser.process.split(&noise_pred, &latents, &self.levels).epsilon
            }
        };
        Ok(noise_pred - &self.target)
    }
}
