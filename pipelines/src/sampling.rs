//! Classifier-free guidance and the denoising loop (methods.md 18).

use crate::families::Denoiser;
use crate::models::{AdapterSet, Conditioning};
use crate::schedulers::Ddim;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// How far the prediction is pushed from the negative side to the positive one (arXiv 2207.12598).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// eps = eps_negative + scale (eps_positive - eps_negative); 1 switches guidance off.
    pub scale: f64,
}

/// One side of guidance: a network, the adapters it wears, and what it is told, `[B, L, D]`.
pub struct Side<'a> {
    pub denoiser: &'a Denoiser,
    pub adapters: Option<AdapterSet>,
    pub conditioning: &'a Conditioning,
}

impl Side<'_> {
    fn predict(&self, latents: &Tensor, timestep: i64) -> Result<Tensor> {
        let timesteps = timesteps_of(timestep, latents);
        self.denoiser.predict(latents, &timesteps, self.conditioning, self.adapters)
    }

    fn shares_network_with(&self, other: &Side) -> bool {
        std::ptr::eq(self.denoiser, other.denoiser) && self.adapters == other.adapters
    }
}

/// A sampler's setting beside its steps.
pub struct Settings {
    pub guidance: Guidance,
    /// DDIM's eta in [0, 1].
    pub eta: f64,
}

/// Denoises `latents` `[B, C, h, w]` (N(0, I)) down to scaled latents of pictures, without tracking gradients.
///
/// * `negative`: None, or guidance scale 1, and only `positive` is asked. Where both sides are the same network with the
///   same adapters, one forward pass of 2B serves them, negative half first as in diffusers.
/// * `noise` draws N(0, I) of the latents' shape; asked once a step, and only where eta > 0.
/// * `on_step(i)` after step i (from 0); false stops, and the result is `None`.
///
/// Both sides' conditionings must be on the latents' device.
pub fn sample(
    positive: &Side,
    negative: Option<&Side>,
    sampler: &Ddim,
    settings: &Settings,
    latents: Tensor,
    noise: &mut dyn FnMut() -> Tensor,
    on_step: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Tensor>> {
    let _frozen = tch::no_grad_guard();
    let scale = settings.guidance.scale;
    match negative.filter(|_| scale != 1.0) {
        None => denoise(sampler, settings.eta, latents, &mut |x, t| positive.predict(x, t), noise, on_step),
        Some(negative) if positive.shares_network_with(negative) => {
            let both = stacked(negative.conditioning, positive.conditioning)?;
            let sides = Side { conditioning: &both, ..*positive };
            let mut predict = |x: &Tensor, t| {
                let halves = sides.predict(&Tensor::cat(&[x, x], 0), t)?.chunk(2, 0);
                Ok(guided(&halves[0], &halves[1], scale))
            };
            denoise(sampler, settings.eta, latents, &mut predict, noise, on_step)
        }
        Some(negative) => {
            let mut predict = |x: &Tensor, t| Ok(guided(&negative.predict(x, t)?, &positive.predict(x, t)?, scale));
            denoise(sampler, settings.eta, latents, &mut predict, noise, on_step)
        }
    }
}

/// The denoising loop itself: `predict(latents, timestep)` is asked at every timestep of `sampler`. See [`sample`].
pub fn denoise(
    sampler: &Ddim,
    eta: f64,
    mut latents: Tensor,
    predict: &mut dyn FnMut(&Tensor, i64) -> Result<Tensor>,
    noise: &mut dyn FnMut() -> Tensor,
    on_step: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Tensor>> {
    for (index, &timestep) in sampler.timesteps().iter().enumerate() {
        let noise_pred = predict(&latents, timestep)?;
        let drawn = (eta > 0.0).then(&mut *noise);
        latents = sampler.step(&noise_pred, timestep, &latents, eta, drawn.as_ref());
        if !on_step(index) {
            return Ok(None);
        }
    }
    Ok(Some(latents))
}

/// eps_n + scale (eps_p - eps_n), for v-prediction likewise.
pub fn guided(negative: &Tensor, positive: &Tensor, scale: f64) -> Tensor {
    negative + (positive - negative) * scale
}

/// Decoded pictures `[B, 3, H, W]`, around [-1, 1], as bytes `[B, H, W, 3]` on the CPU, rounded as diffusers rounds.
pub fn to_bytes(images: &Tensor) -> Result<Tensor> {
    let unit = (images / 2.0 + 0.5).clamp(0.0, 1.0).to_device(Device::Cpu).to_kind(Kind::Float);
    Ok((unit.f_permute([0, 2, 3, 1])?.contiguous() * 255.0).round().to_kind(Kind::Uint8))
}

fn timesteps_of(timestep: i64, latents: &Tensor) -> Tensor {
    Tensor::full([latents.size()[0]], timestep, (Kind::Int64, latents.device()))
}

/// `negative` above `positive`, `[2B, ..]`.
fn stacked(negative: &Conditioning, positive: &Conditioning) -> Result<Conditioning> {
    let cat = |name: &'static str, n: &Option<Tensor>, p: &Option<Tensor>| match (n, p) {
        (Some(n), Some(p)) => Ok(Some(Tensor::f_cat(&[n, p], 0)?)),
        (None, None) => Ok(None),
        _ => Err(Error::Invalid(format!("guidance: one side has {name}, the other has none"))),
    };
    Ok(Conditioning {
        prompt_embeds: Tensor::f_cat(&[&negative.prompt_embeds, &positive.prompt_embeds], 0)?,
        pooled_prompt_embeds: cat(
            "pooled_prompt_embeds",
            &negative.pooled_prompt_embeds,
            &positive.pooled_prompt_embeds,
        )?,
        time_ids: cat("time_ids", &negative.time_ids, &positive.time_ids)?,
    })
}
