//! A sampler and its declaration.

use super::config::SchedulerConfig;
use crate::Result;
use tch::Tensor;

/// The declaration of a sampler: how it is called, what it can take, how it is built.
pub struct Scheduler {
    /// The word for it in options and configurations.
    pub name: &'static str,
    /// Its class in diffusers: the `_class_name` of a scheduler_config.json.
    pub class: &'static str,
    /// How A1111 calls it in the parameters of a picture.
    pub title: &'static str,
    /// Denoising steps where nothing is said.
    pub default_steps: i64,
    /// Whether `eta` scales the noise that it adds.
    pub takes_eta: bool,
    /// Whether Karras's noise levels can replace the model's own.
    pub takes_karras: bool,
    /// Whether it can re-noise with another prediction than it denoises with, as CFG++ asks.
    pub takes_renoise: bool,
    /// Whether its class knows zero terminal SNR; diffusers ignores the key in the others.
    pub takes_zero_terminal_snr: bool,
    /// Builds it as diffusers' `from_config` would from the model's scheduler_config.json, with the options of
    /// [`SamplerOptions`] put over the file.
    pub(super) build: fn(&SchedulerConfig, i64, &SamplerOptions) -> Result<Box<dyn Sampler>>,
}

/// What can be chosen beside sampler and steps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SamplerOptions {
    /// In [0, 1]: the noise of every step as a share of DDPM's.
    pub eta: f64,
    /// Karras's noise levels; None: as the file says.
    pub karras: Option<bool>,
}

impl Scheduler {
    /// Whether it steps through Karras's noise levels: as chosen, else as the file says.
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

/// What guidance makes of the network's predictions for a batch of latents, each `[B, C, h, w]`.
#[derive(Debug)]
pub struct Prediction {
    /// What the latents are denoised with.
    pub guided: Tensor,
    /// What they are noised with again, where that is something else (CFG++, arXiv 2406.08070).
    pub renoise: Option<Tensor>,
}

impl From<Tensor> for Prediction {
    fn from(guided: Tensor) -> Self {
        Self { guided, renoise: None }
    }
}

/// A way from noise to latents of pictures, in a fixed number of calls of the network.
pub trait Sampler {
    /// The timesteps at which the network is called, in order; some samplers use timesteps between the whole ones, and
    /// PNDM one of them twice.
    fn timesteps(&self) -> &[f64];

    /// The standard deviation of the noise to start from.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// What the network is shown of the latents in its call number `call`.
    fn scaled_input(&self, _call: usize, latents: &Tensor) -> Tensor {
        latents.shallow_clone()
    }

    /// The latents after call number `call`, `[B, C, h, w]`, in the kind of `latents`. Calls come in order, from 0.
    /// `noise` draws N(0, I) of the latents' shape; a sampler that adds noise asks once a call.
    fn step(
        &mut self,
        call: usize,
        prediction: &Prediction,
        latents: &Tensor,
        noise: &mut dyn FnMut() -> Tensor,
    ) -> Tensor;
}
