//! A UNet together with its noise process.

use crate::error::Result;
use crate::models::{AdapterSet, Conditioning, UNet2DConditionModel};
use crate::schedulers::{NoiseSchedule, PredictionType};
use tch::{Kind, Tensor};

/// What trainer, sampler and inversion ask of a model.
#[derive(Debug)]
pub struct Denoiser {
    pub unet: UNet2DConditionModel,
    pub schedule: NoiseSchedule,
}

impl Denoiser {
    /// What the network predicts, in its own parameterisation: `latents: [B, C, h, w]`, `timesteps: [B]` int64,
    /// or float for those between the whole ones.
    pub fn predict(
        &self,
        latents: &Tensor,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        adapters: Option<AdapterSet>,
    ) -> Result<Tensor> {
        self.unet.forward(latents, timesteps, conditioning, adapters)
    }

    /// The conditioning of pictures that are made from noise: `height` and `width` in pixels are told to a network that
    /// takes time_ids (original and target size, nothing cropped), other networks get it as it is.
    pub fn with_size(&self, conditioning: Conditioning, height: i64, width: i64) -> Conditioning {
        if self.unet.config().text_time.is_none() {
            return conditioning;
        }
        let embeds = &conditioning.prompt_embeds;
        let rows = embeds.size()[0];
        let ids = Tensor::from_slice(&[height, width, 0, 0, height, width]).to_kind(Kind::Float);
        let ids = ids.to_device(embeds.device()).repeat([rows, 1]); // [B, 6]
        Conditioning { time_ids: Some(ids), ..conditioning }
    }

    /// `sqrt(abar_t) latents + sqrt(1 - abar_t) noise`.
    pub fn add_noise(&self, latents: &Tensor, noise: &Tensor, timesteps: &Tensor) -> Tensor {
        self.schedule.add_noise(latents, noise, timesteps)
    }

    /// What `predict` should give: the noise, or the velocity (arXiv 2202.00512).
    pub fn target(&self, latents: &Tensor, noise: &Tensor, timesteps: &Tensor) -> Tensor {
        match self.schedule.prediction_type() {
            PredictionType::Epsilon => noise.shallow_clone(),
            PredictionType::VPrediction => self.schedule.velocity(latents, noise, timesteps),
        }
    }

    /// The noise that a prediction for noisy `latents` says is in them, `[B, C, h, w]`.
    pub fn noise_of(&self, prediction: &Tensor, latents: &Tensor, timesteps: &Tensor) -> Tensor {
        let (signal, sigma) = self.schedule.coefficients(latents, timesteps);
        self.schedule.prediction_type().estimate(prediction, latents, &signal, &sigma).epsilon
    }

    /// The noise that would lead from `latents` x_0 to `noisy` x_t: (x_t - sqrt(abar_t) x_0) / sqrt(1 - abar_t).
    pub fn noise_between(&self, latents: &Tensor, noisy: &Tensor, timesteps: &Tensor) -> Tensor {
        let (signal, sigma) = self.schedule.coefficients(latents, timesteps);
        (noisy - signal * latents) / sigma
    }

    /// `[B]` float32: squared error of `predict` x this = squared error of the noise. `|eps - eps'|^2 = abar_t |v - v'|^2`.
    pub fn epsilon_factor(&self, timesteps: &Tensor) -> Tensor {
        match self.schedule.prediction_type() {
            PredictionType::Epsilon => Tensor::ones(timesteps.size(), (Kind::Float, timesteps.device())),
            PredictionType::VPrediction => self.schedule.alphas_cumprod_at(timesteps),
        }
    }
}
