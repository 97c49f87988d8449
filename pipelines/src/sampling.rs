//! Classifier-free guidance and the denoising loop (methods.md 18).

use crate::conditioning::Conditioning;
use crate::families::Denoiser;
use crate::levels::Levels;
use crate::models::AdapterSet;
use crate::schedulers::{Prediction, Sampler};
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Combination of the predictions of the negative and the positive side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guidance {
    /// eps = eps_negative + scale (eps_positive - eps_negative) (arXiv 2207.12598); scale 1 turns guidance off.
    /// `rescale` in [0, 1] is guidance rescale: the standard deviation moves towards that of the positive side (arXiv
    /// 2305.08891, 3.4).
    ClassifierFree { scale: f64, rescale: f64 },
    /// CFG++ (arXiv 2406.08070): denoises with eps_negative + lambda (eps_positive - eps_negative), lambda in [0, 1],
    /// renoises with eps_negative. For samplers with a renoise prediction.
    PlusPlus { lambda: f64 },
}

impl Guidance {
    /// Classifier-free guidance without rescale.
    pub fn of_scale(scale: f64) -> Self {
        Self::ClassifierFree { scale, rescale: 0.0 }
    }

    /// Whether the positive side alone counts.
    pub fn is_off(&self) -> bool {
        matches!(self, Self::ClassifierFree { scale, .. } if *scale == 1.0)
    }

    /// Denoising prediction of a sampler, from both sides' predictions `[B, C, h, w]` (epsilon or v).
    pub fn combine(&self, negative: &Tensor, positive: &Tensor) -> Prediction {
        match *self {
            Self::ClassifierFree { scale, rescale } => {
                let guided = guided(negative, positive, scale);
                if rescale > 0.0 { rescaled(&guided, positive, rescale).into() } else { guided.into() }
            }
            Self::PlusPlus { lambda } => {
                Prediction { guided: guided(negative, positive, lambda), renoise: Some(negative.shallow_clone()) }
            }
        }
    }
}

/// One side of guidance: a network, its adapters, and its conditioning `[B, L, D]`.
pub struct Side<'a> {
    pub denoiser: &'a Denoiser,
    pub adapters: Option<AdapterSet>,
    pub conditioning: &'a Conditioning,
}

impl Side<'_> {
    fn predict(&self, latents: &Tensor, level: f64) -> Result<Tensor> {
        let levels = Levels::same(level, latents.size()[0], latents.device());
        self.denoiser.predict(latents, &levels, self.conditioning, self.adapters)
    }

    fn shares_network_with(&self, other: &Side) -> bool {
        std::ptr::eq(self.denoiser, other.denoiser) && self.adapters == other.adapters
    }
}

/// Denoises `latents` `[B, C, h, w]` (N(0, I)) to scaled latents of pictures, without tracking gradients.
///
/// * `negative`: with None, or guidance turned off, only `positive` is computed. If both sides have the same network
///   and adapters, one forward pass of 2B serves both, negative half first as in diffusers.
/// * `noise` draws N(0, I) of the latents' shape; called once per network call, and only by stochastic samplers.
/// * `on_call(i)` is called after call i of the network (from 0); false stops, and the result is `None`.
///
/// Both sides' conditionings must be on the latents' device.
pub fn sample(
    positive: &Side,
    negative: Option<&Side>,
    sampler: &mut dyn Sampler,
    guidance: Guidance,
    latents: Tensor,
    noise: &mut dyn FnMut() -> Tensor,
    on_call: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Tensor>> {
    let _frozen = tch::no_grad_guard();
    match negative.filter(|_| !guidance.is_off()) {
        None => {
            let mut predict = |x: &Tensor, t| positive.predict(x, t).map(Prediction::from);
            denoise(sampler, latents, &mut predict, noise, on_call)
        }
        Some(negative) if positive.shares_network_with(negative) => {
            let both = Conditioning::stacked(&[negative.conditioning, positive.conditioning])?;
            let sides = Side { conditioning: &both, ..*positive };
            let mut predict = |x: &Tensor, t| {
                let halves = sides.predict(&Tensor::cat(&[x, x], 0), t)?.chunk(2, 0);
                Ok(guidance.combine(&halves[0], &halves[1]))
            };
            denoise(sampler, latents, &mut predict, noise, on_call)
        }
        Some(negative) => {
            let mut predict = |x: &Tensor, t| Ok(guidance.combine(&negative.predict(x, t)?, &positive.predict(x, t)?));
            denoise(sampler, latents, &mut predict, noise, on_call)
        }
    }
}

/// The denoising loop: calls `predict(input, timestep)` at every timestep of `sampler`. See [`sample`].
///
/// # Errors
/// Those of `predict`; `NotFinite` with the first step whose latents are not finite.
pub fn denoise(
    sampler: &mut dyn Sampler,
    latents: Tensor,
    predict: &mut dyn FnMut(&Tensor, f64) -> Result<Prediction>,
    noise: &mut dyn FnMut() -> Tensor,
    on_call: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Tensor>> {
    let mut latents = latents * sampler.init_noise_sigma();
    let timesteps = sampler.timesteps().to_vec();
    let mut whole = Vec::new();
    for (call, timestep) in timesteps.iter().copied().enumerate() {
        let prediction = predict(&sampler.scaled_input(call, &latents), timestep)?;
        latents = sampler.step(call, &prediction, &latents, noise);
        whole.push(latents.f_isfinite()?.f_flatten(1, -1)?.f_all_dim(1, false)?);
        if !on_call(call) {
            return Ok(None);
        }
    }
    refuse_not_finite(&whole, &timesteps)?;
    Ok(Some(latents))
}

/// `whole`: per call, which latents of the batch are finite, `[B]`. They are copied to the host once.
fn refuse_not_finite(whole: &[Tensor], timesteps: &[f64]) -> Result<()> {
    if whole.is_empty() {
        return Ok(());
    }
    let flags = Vec::<Vec<bool>>::try_from(Tensor::f_stack(whole, 0)?.f_to_device(Device::Cpu)?)?;
    let first = flags.iter().enumerate().find_map(|(step, rows)| Some((step, rows.iter().position(|whole| !whole)?)));
    match first {
        None => Ok(()),
        Some((step, row)) => Err(Error::NotFinite { row, step, timestep: timesteps[step] }),
    }
}

/// eps_n + scale (eps_p - eps_n), for v-prediction likewise.
pub fn guided(negative: &Tensor, positive: &Tensor, scale: f64) -> Tensor {
    negative + (positive - negative) * scale
}

/// `guided` with its standard deviation over C, h, w moved to that of `positive`: fully with `rescale` 1.
fn rescaled(guided: &Tensor, positive: &Tensor, rescale: f64) -> Tensor {
    let spread = |x: &Tensor| x.std_dim([1i64, 2, 3].as_slice(), true, true);
    let drawn = guided * (spread(positive) / spread(guided));
    drawn * rescale + guided * (1.0 - rescale)
}

/// Decoded pictures `[B, 3, H, W]`, around [-1, 1], as bytes `[B, H, W, 3]` on the CPU, rounded as diffusers rounds.
pub fn to_bytes(images: &Tensor) -> Result<Tensor> {
    let unit = (images / 2.0 + 0.5).clamp(0.0, 1.0).to_device(Device::Cpu).to_kind(Kind::Float);
    Ok((unit.f_permute([0, 2, 3, 1])?.contiguous() * 255.0).round().to_kind(Kind::Uint8))
}

/// Predictions of one network for `latents` `[B, C, h, w]` at `levels` `[B]` on the negative and on the positive
/// side, by one forward pass of 2B, negative half first.
///
/// # Errors
/// Conditionings of different models, errors of `predict`.
pub fn both_sides<E: From<Error>>(
    predict: &dyn Fn(&Tensor, &Levels, &Conditioning) -> std::result::Result<Tensor, E>,
    latents: &Tensor,
    levels: &Levels,
    negative: &Conditioning,
    positive: &Conditioning,
) -> std::result::Result<[Tensor; 2], E> {
    let both = Conditioning::stacked(&[negative, positive])?;
    let halves = predict(&Tensor::cat(&[latents, latents], 0), &levels.repeat(2), &both)?;
    let rows = latents.size()[0];
    Ok([halves.narrow(0, 0, rows), halves.narrow(0, rows, rows)])
}
