//! Euler's method with fresh noise at every step, as diffusers' `EulerAncestralDiscreteScheduler` steps it, after
//! k-diffusion's `sample_euler_ancestral` (docs/methods.md 18).

use super::config::{PredictionType, SchedulerConfig};
use super::prediction::step_kind;
use super::sampler::{Prediction, Sampler, Scheduler};
use super::sigmas::{SigmaGrid, SigmaTable, init_noise_sigma, variance_preserving};
use super::spacing::fractional;
use crate::Result;
use tch::Tensor;

const CLASS: &str = "EulerAncestralDiscreteScheduler";

pub(super) static SCHEDULER: Scheduler = Scheduler {
    name: "euler_a",
    class: CLASS,
    title: "Euler a",
    default_steps: 50,
    takes_eta: false,
    takes_karras: false,
    takes_renoise: false,
    takes_zero_terminal_snr: true,
    build: |config, steps, _| Ok(Box::new(EulerAncestral::new(config, steps)?)),
};

/// An ancestral Euler sampler: it steps below the next level and adds the noise up to that level.
#[derive(Debug)]
pub struct EulerAncestral {
    grid: SigmaGrid,
    prediction_type: PredictionType,
    init_noise_sigma: f64,
}

impl EulerAncestral {
    /// The sampler of `EulerAncestralDiscreteScheduler.from_config` for `config`.
    ///
    /// # Errors
    /// Steps that the model lacks.
    pub fn new(config: &SchedulerConfig, steps: i64) -> Result<Self> {
        let mut grid = SigmaTable::new(config)?.at(fractional(config, CLASS, steps)?);
        // The class has no final_sigmas_type: it always ends without noise.
        grid.sigmas[steps as usize] = 0.0;
        let init_noise_sigma = init_noise_sigma(config, &grid);
        Ok(Self { grid, prediction_type: config.prediction_type, init_noise_sigma })
    }

    /// The noise levels, one more than calls.
    pub fn sigmas(&self) -> &[f32] {
        &self.grid.sigmas
    }
}

/// Target level of a step from `sigma` to `next`, and the added noise: up^2 + down^2 = next^2.
pub fn split(sigma: f32, next: f32) -> (f32, f32) {
    let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).sqrt();
    (up, (next * next - up * up).sqrt())
}

impl Sampler for EulerAncestral {
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
        noise: &mut dyn FnMut() -> Tensor,
    ) -> Tensor {
        let sigma = self.grid.sigmas[call];
        let (up, down) = split(sigma, self.grid.sigmas[call + 1]);
        let z = latents.to_kind(step_kind(latents));
        let slope = (&z - self.prediction_type.denoised(&prediction.guided, &z, sigma)) / f64::from(sigma);
        (z + slope * f64::from(down - sigma) + noise() * f64::from(up)).to_kind(latents.kind())
    }
}
