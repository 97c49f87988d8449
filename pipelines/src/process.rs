//! A noise process: noising of pictures, target of a network, samplers.

use crate::levels::{LevelRange, Levels};
use crate::schedulers::{Estimate, Sampler, SamplerOptions, Scheduler, StochasticSampler};
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// `signal` and `sigma` of x = signal x_0 + sigma eps, `[B, 1, 1, 1]` each.
#[derive(Debug)]
pub struct Coefficients {
    pub signal: Tensor,
    pub sigma: Tensor,
}

/// The noise process of a model. Levels below 0 count as 0.
pub trait Process: std::fmt::Debug {
    fn range(&self) -> LevelRange;

    /// Coefficients of picture and noise at `levels` `[B]`, in the kind and on the device of `like`.
    fn coefficients(&self, like: &Tensor, levels: &Levels) -> Coefficients;

    /// Target of the network for x_0 and `noise` `[B, C, h, w]` at `levels`, `[B, C, h, w]`.
    fn target(&self, x0: &Tensor, noise: &Tensor, levels: &Levels) -> Tensor;

    /// Splits `noisy` `[B, C, h, w]` into picture and noise by the network's prediction for it.
    fn split(&self, prediction: &Tensor, noisy: &Tensor, levels: &Levels) -> Estimate;

    /// `[B]` float32: factor from the mean squared error of a prediction to the error that margins compare.
    fn error_factor(&self, levels: &Levels) -> Tensor;

    /// A fresh sampler of `steps` steps for one batch of pictures.
    ///
    /// # Errors
    /// Options outside the sampler, steps that the process lacks.
    fn sampler(&self, scheduler: &Scheduler, steps: i64, options: &SamplerOptions) -> Result<Box<dyn Sampler>>;

    /// A sampler whose steps are draws from known normal distributions, with `eta` in [0, 1] on their noise.
    ///
    /// # Errors
    /// Steps that the process lacks.
    fn stochastic_sampler(&self, steps: i64, eta: f64) -> Result<Box<dyn StochasticSampler>>;

    /// Moves tables to the device of the latents: saves one copy per call.
    fn move_to(&mut self, _device: Device) {}

    /// x = signal x_0 + sigma noise, `[B, C, h, w]`.
    fn add_noise(&self, x0: &Tensor, noise: &Tensor, levels: &Levels) -> Tensor {
        let Coefficients { signal, sigma } = self.coefficients(x0, levels);
        signal * x0 + sigma * noise
    }

    /// The noise between `x0` and `noisy`, `[B, C, h, w]`: (x - signal x_0) / sigma.
    fn noise_between(&self, x0: &Tensor, noisy: &Tensor, levels: &Levels) -> Tensor {
        let Coefficients { signal, sigma } = self.coefficients(x0, levels);
        (noisy - signal * x0) / sigma
    }

    /// Latents noised further from the levels `from` to `to`, `[B, C, h, w]`: (a_to / a_from) x + sqrt(s_to^2 -
    /// s_from^2 a_to^2 / a_from^2) noise.
    fn noise_further(&self, latents: &Tensor, noise: &Tensor, from: &Levels, to: &Levels) -> Tensor {
        let (before, after) = (self.coefficients(latents, from), self.coefficients(latents, to));
        let ratio = after.signal / before.signal;
        let spread = (after.sigma.square() - (before.sigma * &ratio).square()).clamp_min(0.0).sqrt();
        ratio * latents + spread * noise
    }

    /// Standard deviation of the noise removed by DDPM from `from` down to `to`, `[B, 1, 1, 1]` like `like` (eq. 16
    /// of arXiv 2010.02502).
    fn reverse_std(&self, like: &Tensor, from: &Levels, to: &Levels) -> Tensor {
        let (from, to) = (self.coefficients(like, from), self.coefficients(like, to));
        let kept = (&to.sigma * &from.signal / &to.signal).square();
        ((&to.sigma / &from.sigma).square() * (from.sigma.square() - kept).clamp_min(0.0)).sqrt()
    }

    /// sigma / signal, the root of 1 / SNR, `[B]` float64 on the CPU.
    fn noise_to_signal(&self, levels: &Levels) -> Tensor {
        let like = Tensor::zeros([levels.rows(), 1, 1, 1], (Kind::Double, Device::Cpu));
        let Coefficients { signal, sigma } = self.coefficients(&like, levels);
        (sigma / signal).view([-1])
    }
}

/// Refuses a prediction or other tensor that is not of the latents' shape.
pub(crate) fn check_like(what: &'static str, found: &Tensor, latents: &Tensor) -> Result<()> {
    if found.size() == latents.size() {
        return Ok(());
    }
    let (expected, found) = (format!("{:?}", latents.size()), format!("{:?}", found.size()));
    Err(Error::Shape { what, expected, found })
}
