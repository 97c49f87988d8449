//! Discrete diffusion as a [`Process`]: levels are timesteps, fractional ones for some samplers.

use super::config::PredictionType;
use super::ddim::Ddim;
use super::prediction::Estimate;
use super::sampler::{Sampler, SamplerOptions, Scheduler};
use super::schedule::NoiseSchedule;
use super::stochastic::StochasticSampler;
use crate::Result;
use crate::levels::{LevelRange, Levels};
use crate::process::{Coefficients, Process};
use tch::{Device, Kind, Tensor};

/// `[B]` int64
fn timesteps(levels: &Levels) -> Tensor {
    levels.tensor().clamp_min(0).to_kind(Kind::Int64)
}

impl NoiseSchedule {
    /// abar of `levels`, `[B]` float32, on their device.
    fn abar(&self, levels: &Levels) -> Tensor {
        self.alphas_cumprod_at(&timesteps(levels))
    }
}

impl Process for NoiseSchedule {
    fn range(&self) -> LevelRange {
        LevelRange::Steps(self.num_train_timesteps())
    }

    /// sqrt(abar_t) and sqrt(1 - abar_t).
    fn coefficients(&self, like: &Tensor, levels: &Levels) -> Coefficients {
        let (signal, sigma) = self.coefficients(like, &timesteps(levels));
        Coefficients { signal, sigma }
    }

    /// The noise, or the velocity (arXiv 2202.00512).
    fn target(&self, x0: &Tensor, noise: &Tensor, levels: &Levels) -> Tensor {
        match self.prediction_type() {
            PredictionType::Epsilon => noise.shallow_clone(),
            PredictionType::VPrediction => self.velocity(x0, noise, &timesteps(levels)),
        }
    }

    fn split(&self, prediction: &Tensor, noisy: &Tensor, levels: &Levels) -> Estimate {
        let (signal, sigma) = self.coefficients(noisy, &timesteps(levels));
        self.prediction_type().estimate(prediction, noisy, &signal, &sigma)
    }

    /// Margins compare squared errors of the noise: |eps - eps'|^2 = abar_t |v - v'|^2.
    fn error_factor(&self, levels: &Levels) -> Tensor {
        match self.prediction_type() {
            PredictionType::Epsilon => Tensor::ones([levels.rows()], (Kind::Float, levels.tensor().device())),
            PredictionType::VPrediction => self.abar(levels),
        }
    }

    fn sampler(&self, scheduler: &Scheduler, steps: i64, options: &SamplerOptions) -> Result<Box<dyn Sampler>> {
        scheduler.sampler(self.config(), steps, options)
    }

    /// DDIM.
    fn stochastic_sampler(&self, steps: i64, eta: f64) -> Result<Box<dyn StochasticSampler>> {
        Ok(Box::new(Ddim::new(self.config(), steps, &SamplerOptions { eta, ..SamplerOptions::default() })?))
    }

    fn move_to(&mut self, device: Device) {
        *self = self.to_device(device);
    }

    fn noise_further(&self, latents: &Tensor, noise: &Tensor, from: &Levels, to: &Levels) -> Tensor {
        let abar = |levels: &Levels| self.abar(levels).to_kind(latents.kind()).reshape([-1, 1, 1, 1]);
        let (before, after) = (abar(from), abar(to));
        let ratio = &after / &before; // a_to^2 / a_from^2
        let spread = (1f64 - &after - (1f64 - &before) * &ratio).clamp_min(0.0).sqrt();
        ratio.sqrt() * latents + spread * noise
    }

    fn reverse_std(&self, like: &Tensor, from: &Levels, to: &Levels) -> Tensor {
        let abar = |levels: &Levels| self.abar(levels).to_kind(Kind::Double);
        let (from, to) = (abar(from), abar(to));
        let variance = (1f64 - &to) / (1f64 - &from) * (1f64 - &from / &to);
        variance.sqrt().to_kind(like.kind()).reshape([-1, 1, 1, 1])
    }

    fn noise_to_signal(&self, levels: &Levels) -> Tensor {
        let abar = self.abar(levels).to_device(Device::Cpu).to_kind(Kind::Double);
        ((1f64 - &abar) / abar).sqrt()
    }
}
