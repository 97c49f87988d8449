//! A sampler and its declaration.

use super::config::SchedulerConfig;
use crate::Result;
use tch::Tensor;

/// The declaration of a sampler: names, options, constructor.
pub struct Scheduler {
    /// Name in options and configurations.
    pub name: &'static str,
    /// Its class in diffusers: `_class_name` of a scheduler_config.json.
    pub class: &'static str,
    /// Its name in A1111's parameters of a picture.
    pub title: &'static str,
    /// Default number of denoising steps.
    pub default_steps: i64,
    /// Whether `eta` scales its noise.
    pub takes_eta: bool,
    /// Whether Karras's noise levels can replace the model's own.
    pub takes_karras: bool,
    /// Whether it takes a separate renoise prediction, for CFG++.
    pub takes_renoise: bool,
    /// Whether its class supports zero terminal SNR; diffusers ignores the key in the others.
    pub takes_zero_terminal_snr: bool,
    /// Builds it as diffusers' `from_config` does from the model's scheduler_config.json, overridden by
    /// [`SamplerOptions`].
    pub(super) build: fn(&SchedulerConfig, i64, &SamplerOptions) -> Result<Box<dyn Sampler>>,
}

/// Options besides sampler and steps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SamplerOptions {
    /// In [0, 1]: the noise of every step as a share of DDPM's.
    pub eta: f64,
    /// Karras's noise levels; None: the file's setting.
    pub karras: Option<bool>,
}

impl Scheduler {
    /// Whether it uses Karras's noise levels: by option, else by the file.
    pub fn uses_karras(&self, config: &SchedulerConfig, chosen: Option<bool>) -> Result<bool> {
        let stated = config.flag("use_karras_sigmas")?;
        Ok(self.takes_karras && chosen.or(stated).unwrap_or(false))
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Scheduler {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Guided predictions of the network for a batch of latents, each `[B, C, h, w]`.
#[derive(Debug)]
pub struct Prediction {
    /// Prediction for denoising.
    pub guided: Tensor,
    /// Prediction for renoising, if different (CFG++, arXiv 2406.08070).
    pub renoise: Option<Tensor>,
}

impl From<Tensor> for Prediction {
    fn from(guided: Tensor) -> Self {
        Self { guided, renoise: None }
    }
}

/// A path from noise to latents of pictures, in a fixed number of calls of the network.
pub trait Sampler {
    /// The timesteps of the network's calls, in order. Some samplers use fractional timesteps, and PNDM uses one of
    /// them twice.
    fn timesteps(&self) -> &[f64];

    /// Standard deviation of the initial noise.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// Input of the network for the latents at call number `call`.
    fn scaled_input(&self, _call: usize, latents: &Tensor) -> Tensor {
        latents.shallow_clone()
    }

    /// The latents after call number `call`, `[B, C, h, w]`, in the kind of `latents`. Calls are in order, from 0.
    /// `noise` draws N(0, I) of the latents' shape; a stochastic sampler calls it once per call.
    fn step(
        &mut self,
        call: usize,
        prediction: &Prediction,
        latents: &Tensor,
        noise: &mut dyn FnMut() -> Tensor,
    ) -> Tensor;
}
