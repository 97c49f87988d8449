//! Euler's method on the probability flow (arXiv 2206.00364, algorithm 2 without churn), as diffusers'
//! `EulerDiscreteScheduler` steps it (docs/methods.md 18).

use super::config::{PredictionType, SchedulerConfig};
use super::prediction::step_kind;
use super::sampler::{Prediction, Sampler, SamplerOptions, Scheduler};
use super::sigmas::{SigmaGrid, SigmaTable, init_noise_sigma, variance_preserving};
use super::spacing::fractional;
use crate::{Error, Result};
use tch::Tensor;

const CLASS: &str = "EulerDiscreteScheduler";

pub(super) static SCHEDULER: Scheduler = Scheduler {
    name: "euler",
    class: CLASS,
    title: "Euler",
    default_steps: 50,
    takes_eta: false,
    takes_karras: true,
    takes_renoise: false,
    takes_zero_terminal_snr: true,
    build: |config, steps, options| Ok(Box::new(Euler::new(config, steps, options)?)),
};

/// An Euler sampler. Its latents are z = x_t / sqrt(abar_t) = x_0 + sigma noise.
#[derive(Debug)]
pub struct Euler {
    grid: SigmaGrid,
    prediction_type: PredictionType,
    init_noise_sigma: f64,
}

impl Euler {
    /// The sampler of `EulerDiscreteScheduler.from_config` for `config`.
    ///
    /// # Errors
    /// Steps that the model lacks; noise levels that are not implemented (exponential, beta, log-linear), continuous
    /// timesteps.
    pub fn new(config: &SchedulerConfig, steps: i64, options: &SamplerOptions) -> Result<Self> {
        config.refuse_flags(&["use_exponential_sigmas", "use_beta_sigmas"])?;
        config.refuse_other_texts("interpolation_type", &["linear"])?;
        if config.prediction_type == PredictionType::VPrediction {
            config.refuse_other_texts("timestep_type", &["discrete"])?;
        }
        let table = SigmaTable::new(config)?;
        let mut grid = table.at(fractional(config, CLASS, steps)?);
        if SCHEDULER.uses_karras(config, options.karras)? {
            let last = grid.sigmas[grid.timesteps.len() - 1];
            grid = table.karras(config, steps, grid.sigmas[0], last)?;
        }
        let init_noise_sigma = init_noise_sigma(config, &grid);
        Ok(Self { grid, prediction_type: config.prediction_type, init_noise_sigma })
    }

    /// A sampler through the levels of `grid`, from noise of the first level.
    pub fn through(grid: SigmaGrid, prediction_type: PredictionType) -> Result<Self> {
        let (Some(first), true) = (grid.sigmas.first(), grid.sigmas.len() == grid.timesteps.len() + 1) else {
            return Err(Error::Invalid("a grid of noise levels needs one level more than timesteps".to_string()));
        };
        Ok(Self { init_noise_sigma: f64::from(*first), grid, prediction_type })
    }

    /// The noise levels, one more than calls.
    pub fn sigmas(&self) -> &[f32] {
        &self.grid.sigmas
    }
}

impl Sampler for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.grid.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    fn scaled_input(&self, call: usize, latents: &Tensor) -> Tensor {
        variance_preserving(latents, self.grid.sigmas[call])
    }

    fn step(
        &mut self,
        call: usize,
        prediction: &Prediction,
        latents: &Tensor,
        _noise: &mut dyn FnMut() -> Tensor,
    ) -> Tensor {
        let (sigma, next) = (self.grid.sigmas[call], self.grid.sigmas[call + 1]);
        let z = latents.to_kind(step_kind(latents));
        let slope = (&z - self.prediction_type.denoised(&prediction.guided, &z, sigma)) / f64::from(sigma);
        (z + slope * f64::from(next - sigma)).to_kind(latents.kind())
    }
}
