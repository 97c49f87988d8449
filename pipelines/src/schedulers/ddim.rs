//! Denoising diffusion implicit models (arXiv 2010.02502), as diffusers' `DDIMScheduler` steps them (docs/methods.md 18).

use super::config::{PredictionType, SchedulerConfig};
use super::sampler::{Prediction, Sampler, SamplerOptions, Scheduler};
use super::schedule::NoiseSchedule;
use super::spacing;
use super::stochastic::{StochasticSampler, Transitions};
use crate::Result;
use tch::Tensor;

const CLASS: &str = "DDIMScheduler";

pub(super) static SCHEDULER: Scheduler = Scheduler {
    name: "ddim",
    class: CLASS,
    title: "DDIM",
    default_steps: 50,
    takes_eta: true,
    takes_karras: false,
    takes_renoise: true,
    takes_zero_terminal_snr: true,
    build: |config, steps, options| Ok(Box::new(Ddim::new(config, steps, options)?)),
};

/// A DDIM sampler. Coefficients are float32 as in diffusers, whatever the latents' kind.
#[derive(Debug)]
pub struct Ddim {
    timesteps: Vec<f64>,
    /// abar at each timestep, and the destination of its step.
    levels: Vec<(f32, f32)>,
    prediction_type: PredictionType,
    eta: f32,
    /// Range to which the predicted x_0 is clamped.
    clip: Option<f64>,
}

/// p(x_p | x_t) of a DDIM step: N(mean, std^2), `mean` `[B, C, h, w]`.
#[derive(Debug)]
pub struct Transition {
    pub mean: Tensor,
    pub std: f64,
}

/// Coefficients that split x_t and recombine x_p, each a scalar or `[B, 1, 1, 1]`, float32.
struct Coefficients {
    /// sqrt(abar_t), sqrt(1 - abar_t)
    signal: Tensor,
    sigma: Tensor,
    /// sqrt(abar_p), and the coefficient of epsilon besides the new noise.
    signal_prev: Tensor,
    direction: Tensor,
}

impl Ddim {
    /// The sampler of `DDIMScheduler.from_config` for `config`: absent keys have DDIM's defaults.
    ///
    /// # Errors
    /// More steps than the model has, dynamic thresholding.
    pub fn new(config: &SchedulerConfig, steps: i64, options: &SamplerOptions) -> Result<Self> {
        config.refuse_flags(&["thresholding"])?;
        let timesteps = spacing::whole(config, CLASS, steps)?;
        let abar = Vec::<f32>::try_from(NoiseSchedule::new(config).alphas_cumprod())?;
        let last = if config.set_alpha_to_one.unwrap_or(true) { 1.0 } else { abar[0] };
        // The step length is T div steps, for every spacing.
        let stride = config.num_train_timesteps / steps;
        let at = |t: i64| if t < 0 { last } else { abar[t as usize] };
        Ok(Self {
            levels: timesteps.iter().map(|t| (at(*t), at(t - stride))).collect(),
            timesteps: timesteps.into_iter().map(|t| t as f64).collect(),
            prediction_type: config.prediction_type,
            eta: options.eta as f32,
            clip: clips_latents(config).then_some(config.clip_sample_range),
        })
    }

    /// A deterministic sampler that visits `levels` (at least two, falling) of a schedule one after the other and ends at
    /// the last of them, at which the network is not called.
    pub fn through(schedule: &NoiseSchedule, levels: &[i64]) -> Self {
        let abar = |t: i64| schedule.alphas_cumprod().double_value(&[t]) as f32;
        Self {
            timesteps: levels.iter().take(levels.len().saturating_sub(1)).map(|t| *t as f64).collect(),
            levels: levels.windows(2).map(|pair| (abar(pair[0]), abar(pair[1]))).collect(),
            prediction_type: schedule.prediction_type(),
            eta: 0.0,
            clip: None,
        }
    }

    /// Distribution after call number `call`: eq. 12 of the paper.
    pub fn transition(&self, call: usize, prediction: &Prediction, latents: &Tensor) -> Transition {
        let mean = self.mean(&self.coefficients(call), prediction, latents);
        Transition { mean, std: f64::from(self.std(call)) }
    }

    /// The variance of the noise that call number `call` adds with eta = 1: eq. 16 of the paper.
    pub fn variance(&self, call: usize) -> f32 {
        let (abar, abar_prev) = self.levels[call];
        (1.0 - abar_prev) / (1.0 - abar) * (1.0 - abar / abar_prev)
    }

    /// The standard deviation of the noise that call number `call` adds.
    fn std(&self, call: usize) -> f32 {
        self.eta * self.variance(call).sqrt()
    }

    fn coefficients(&self, call: usize) -> Coefficients {
        let ((abar, abar_prev), std) = (self.levels[call], self.std(call));
        Coefficients {
            signal: Tensor::from(abar.sqrt()),
            sigma: Tensor::from((1.0 - abar).sqrt()),
            signal_prev: Tensor::from(abar_prev.sqrt()),
            // From noise alone with eta 1 it is 0, and rounding may make that negative.
            direction: Tensor::from((1.0 - abar_prev - std * std).max(0.0).sqrt()),
        }
    }

    fn mean(&self, coefficients: &Coefficients, prediction: &Prediction, latents: &Tensor) -> Tensor {
        let (x0, epsilon) = self.estimate(coefficients, prediction, latents);
        x0 * &coefficients.signal_prev + epsilon * &coefficients.direction
    }

    /// The predicted x_0, clamped if the file has it so, and the noise for the next step.
    fn estimate(&self, coefficients: &Coefficients, prediction: &Prediction, latents: &Tensor) -> (Tensor, Tensor) {
        let Coefficients { signal, sigma, .. } = coefficients;
        let split = |p: &Tensor| self.prediction_type.estimate(p, latents, signal, sigma);
        let guided = split(&prediction.guided);
        let x0 = match self.clip {
            Some(range) => guided.x0.clamp(-range, range),
            None => guided.x0,
        };
        (x0, prediction.renoise.as_ref().map_or(guided.epsilon, |renoise| split(renoise).epsilon))
    }
}

impl Sampler for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn step(
        &mut self,
        call: usize,
        prediction: &Prediction,
        latents: &Tensor,
        noise: &mut dyn FnMut() -> Tensor,
    ) -> Tensor {
        // CFG++ ends with the denoised latents themselves.
        if prediction.renoise.is_some() && call + 1 == self.timesteps.len() {
            return self.x0(call, prediction, latents);
        }
        let Transition { mean, std } = self.transition(call, prediction, latents);
        if self.eta > 0.0 { mean + noise() * std } else { mean }
    }
}

impl StochasticSampler for Ddim {
    /// Coefficients are float32 for every kind of latents.
    fn transitions(&self, calls: &[usize], prediction: &Prediction, latents: &Tensor) -> Transitions {
        let device = latents.device();
        let of_rows: Vec<Coefficients> = calls.iter().map(|call| self.coefficients(*call)).collect();
        let rows = |of: fn(&Coefficients) -> &Tensor| {
            Tensor::stack(&of_rows.iter().map(of).collect::<Vec<_>>(), 0).view([-1, 1, 1, 1]).to_device(device)
        };
        let coefficients = Coefficients {
            signal: rows(|c| &c.signal),
            sigma: rows(|c| &c.sigma),
            signal_prev: rows(|c| &c.signal_prev),
            direction: rows(|c| &c.direction),
        };
        let std: Vec<f64> = calls.iter().map(|call| f64::from(self.std(*call))).collect();
        Transitions {
            mean: self.mean(&coefficients, prediction, latents),
            std: Tensor::from_slice(&std).to_device(device),
        }
    }

    /// Clamped if the file has it so.
    fn x0(&self, call: usize, prediction: &Prediction, latents: &Tensor) -> Tensor {
        self.estimate(&self.coefficients(call), prediction, latents).0
    }

    fn adds_noise(&self, call: usize) -> bool {
        self.variance(call) > 0.0
    }
}

/// True if DDIM built from the file clamps the predicted x_0, for pixel models only: DDIM's default without the key,
/// except in a DDIM model's own file, which the pipeline corrects.
pub fn clips_latents(config: &SchedulerConfig) -> bool {
    config.clip_sample.unwrap_or(config.class_name != CLASS)
}
