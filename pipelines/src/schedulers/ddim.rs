//! Denoising diffusion implicit models (arXiv 2010.02502), as diffusers' `DDIMScheduler` steps them (methods.md 18).

use super::{NoiseSchedule, PredictionType, SchedulerConfig, TimestepSpacing};
use crate::{Error, Result};
use tch::Tensor;

/// A DDIM sampler of a fixed number of steps. Coefficients are float32 as in diffusers, whatever the latents' kind.
#[derive(Debug)]
pub struct Ddim {
    timesteps: Vec<i64>,
    /// T div steps: the distance to the previous timestep, whatever the spacing.
    stride: i64,
    alphas_cumprod: Vec<f32>,
    /// abar where the previous timestep would be negative: 1 or abar_0.
    final_alpha_cumprod: f32,
    prediction_type: PredictionType,
    /// Range to which the predicted x_0 is clamped.
    clip: Option<f64>,
}

impl Ddim {
    /// The sampler that `DDIMScheduler.from_config` makes of `config`: keys that the file lacks take DDIM's defaults. In
    /// the file of a DDIM model itself the pipeline's corrections hold too: steps_offset 1 and clip_sample false.
    pub fn new(config: &SchedulerConfig, steps: i64) -> Result<Self> {
        if config.thresholding {
            return Err(Error::config(&config.path, "thresholding", "false", "true, which is not implemented"));
        }
        let own = config.class_name == "DDIMScheduler";
        let offset = config.steps_offset.unwrap_or(i64::from(own));
        let clip = config.clip_sample.unwrap_or(!own);
        let total = config.num_train_timesteps;
        if !(1..=total).contains(&steps) {
            return Err(Error::Invalid(format!(
                "{steps} sampling steps: expected 1 to {total}, the timesteps of the model"
            )));
        }
        let spacing = config.timestep_spacing.unwrap_or(TimestepSpacing::Leading);
        let timesteps = timesteps(spacing, total, steps, offset);
        if timesteps.iter().any(|t| !(0..total).contains(t)) {
            return Err(Error::Invalid(format!(
                "{steps} sampling steps with leading spacing and steps_offset {offset} start past timestep {}; take fewer",
                total - 1
            )));
        }
        let schedule = NoiseSchedule::new(config);
        let alphas_cumprod = Vec::<f32>::try_from(schedule.alphas_cumprod())?;
        let final_alpha_cumprod = if config.set_alpha_to_one.unwrap_or(true) { 1.0 } else { alphas_cumprod[0] };
        Ok(Self {
            timesteps,
            stride: total / steps,
            alphas_cumprod,
            final_alpha_cumprod,
            prediction_type: config.prediction_type,
            clip: clip.then_some(config.clip_sample_range),
        })
    }

    /// Timesteps in the order they are visited, falling.
    pub fn timesteps(&self) -> &[i64] {
        &self.timesteps
    }

    /// True where the predicted x_0 is clamped, which only pixel models want: DDIM's default where the file says nothing.
    pub fn clips_latents(&self) -> bool {
        self.clip.is_some()
    }

    /// One step from `timestep` to the one before: latents `[B, C, h, w]` and the network's prediction for them (epsilon
    /// or v). `eta` in [0, 1] scales the noise added (0: deterministic, 1: DDPM's variance), `noise` is N(0, I) of the
    /// latents' shape and is needed where eta > 0 (DDIM eq. 12 and 16).
    ///
    /// `timestep` must be one of `timesteps()`.
    pub fn step(
        &self,
        noise_pred: &Tensor,
        timestep: i64,
        latents: &Tensor,
        eta: f64,
        noise: Option<&Tensor>,
    ) -> Tensor {
        let (abar, abar_prev) = self.alphas(timestep);
        let (signal, sigma) = (f64::from(abar.sqrt()), f64::from((1.0 - abar).sqrt()));
        let (x0, epsilon) = match self.prediction_type {
            PredictionType::Epsilon => ((latents - noise_pred * sigma) / signal, noise_pred.shallow_clone()),
            PredictionType::VPrediction => {
                (latents * signal - noise_pred * sigma, noise_pred * signal + latents * sigma)
            }
        };
        let x0 = match self.clip {
            Some(range) => x0.clamp(-range, range),
            None => x0,
        };
        let std = eta as f32 * self.variance(timestep).sqrt();
        // From abar = 0 (zero terminal SNR) with eta = 1 all of it is new noise: rounding may leave -6e-8 here.
        let direction = (1.0 - abar_prev - std * std).max(0.0).sqrt();
        let previous = x0 * f64::from(abar_prev.sqrt()) + epsilon * f64::from(direction);
        match noise {
            Some(noise) if eta > 0.0 => previous + noise * f64::from(std),
            _ => previous,
        }
    }

    /// sigma_t(1)^2: the variance of the noise that a step with eta = 1 adds.
    pub fn variance(&self, timestep: i64) -> f32 {
        let (abar, abar_prev) = self.alphas(timestep);
        (1.0 - abar_prev) / (1.0 - abar) * (1.0 - abar / abar_prev)
    }

    /// abar at `timestep` and at the one before.
    fn alphas(&self, timestep: i64) -> (f32, f32) {
        let previous = timestep - self.stride;
        let abar_prev = if previous < 0 { self.final_alpha_cumprod } else { self.alphas_cumprod[previous as usize] };
        (self.alphas_cumprod[timestep as usize], abar_prev)
    }
}

/// Timesteps of `steps` steps as diffusers 0.42 makes them, with numpy's rounding half to even.
///
/// "trailing" deviates from diffusers where its `np.arange(T, 0, -T/n)` yields n + 1 entries, the last of them -1 (62 of
/// the n up to 1000, the smallest is 61): here there are always n.
fn timesteps(spacing: TimestepSpacing, total: i64, steps: i64, offset: i64) -> Vec<i64> {
    match spacing {
        TimestepSpacing::Leading => (0..steps).rev().map(|j| (total / steps) * j + offset).collect(),
        TimestepSpacing::Linspace => {
            let step = (total - 1) as f64 / (steps - 1).max(1) as f64;
            (0..steps).rev().map(|j| (j as f64 * step).round_ties_even() as i64).collect()
        }
        TimestepSpacing::Trailing => {
            // numpy fills an arange from its first two entries, which matters where a value falls on .5
            let delta = (total as f64 - total as f64 / steps as f64) - total as f64;
            (0..steps).map(|i| (total as f64 + i as f64 * delta).round_ties_even() as i64 - 1).collect()
        }
    }
}
