//! One model on the pairs: its errors, and their gradients.

use super::super::models::NamedModel;
use super::ches::{ches, gradients, output_gradient};
use super::request::PairsRequest;
use crate::data::batches::{Batch, BatchOptions, Batches, CropRule, Images, NoiseRule, Posterior, TimeIds};
use crate::data::cache::CacheDtype;
use crate::data::draws::Draws;
use crate::data::encoding::{Encoded, Encoding};
use crate::data::items::{ImageRef, Item};
use crate::data::timesteps::TimestepLaw;
use crate::networks::{Machine, Noised, mean_square};
use crate::numbers::mean;
use crate::objectives::numbers;
use crate::painting::{check_size, read_loras};
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result, bail};
use pipelines::Levels;
use pipelines::families::{Denoiser, ModelFolder};
use pipelines::lora::{Lora, LoraWeights, Network};
use pipelines::models::AdapterSet;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// A pair by one model: means over the draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Errors of winner and loser in the space of margins.
    pub errors: [f64; 2],
    pub ches_output: f64,
    pub ches_last_layer: f64,
}

/// The pairs by one model.
pub struct OfModel {
    /// One per item; `None`: a picture cannot be read.
    pub pairs: Vec<Option<Measured>>,
    /// Pictures that cannot be read, with the reason.
    pub unreadable: BTreeMap<ImageRef, String>,
    pub space: Space,
}

/// Latents and noise that errors of two models must share to be compared.
#[derive(Debug, PartialEq)]
pub struct Space {
    vae_sha256: String,
    pub resolution: i64,
    /// sigma / signal at the noise levels of the draws.
    noise: Vec<f64>,
}

impl Space {
    /// Whether the latents are the same.
    pub fn same_vae(&self, other: &Self) -> bool {
        self.vae_sha256 == other.vae_sha256
    }
}

/// A model in memory.
struct Loaded {
    denoiser: Denoiser,
    adapters: Option<AdapterSet>,
    machine: Machine,
    /// The weight of the last layer.
    last: Tensor,
}

/// The pairs that every model is measured on.
pub struct Task<'a> {
    pub items: &'a [Item],
    pub request: &'a PairsRequest,
    pub progress: &'a dyn Progress,
    pub stop: &'a Stop,
}

impl Task<'_> {
    /// Measures a model on all pairs. `resolution`: that of the first model; `None`: this is the first.
    ///
    /// # Errors
    /// Files that cannot be read, an error that is not finite, [`crate::progress::Stopped`] after a signal.
    pub fn measure(&self, model: &NamedModel, resolution: Option<i64>) -> Result<OfModel> {
        let folder = model.request(self.request.device, self.request.kind).folder(self.progress)?;
        let resolution = resolution.or(self.request.resolution).unwrap_or_else(|| folder.native_resolution());
        check_size(resolution, resolution, folder.vae().factor())?;
        let process = folder.process();
        let draws = Draws { seed: 0, draws_per_pair: 0, range: process.range() };
        let batches = Batches::new(Vec::new(), draws, batch_options(&folder, resolution, &draws))?;
        let mut lora = read_loras(&model.loras, &folder.lora_targets())?;
        let unet = lora.take(Network::Unet);
        let encoded = self.encode(&folder, model, &lora, &batches)?;
        let loaded = Loaded::new(&folder, model, unet, self.request)?;
        let mut pairs = Vec::new();
        self.progress.begin("validate", 0, self.items.len() as u64);
        for (done, item) in self.items.iter().enumerate() {
            self.stop.check()?;
            let batch = batches.validation_batch(item, self.request.draws, &encoded.latents, &encoded.texts)?;
            pairs.push(batch.map(|batch| loaded.pair(&model.name, &batch)).transpose()?);
            self.progress.advance(done as u64 + 1, &model.name);
        }
        self.progress.end();
        let levels: Vec<f64> = (0..self.request.draws).map(|j| draws.val_level(j, self.request.draws)).collect();
        let noise = Vec::<f64>::try_from(process.noise_to_signal(&Levels::new(&levels)))?;
        let space = Space { vae_sha256: encoded.vae_sha256, resolution, noise };
        Ok(OfModel { pairs, unreadable: encoded.latents.unreadable().clone(), space })
    }

    fn encode(&self, folder: &ModelFolder, model: &NamedModel, text_lora: &Lora, batches: &Batches) -> Result<Encoded> {
        let mut plan = batches.plan(0..0)?;
        batches.plan_validation(&mut plan, self.items);
        plan.prompt("");
        let BatchOptions { resolution, latent_shape, .. } = batches.options();
        let encoding = Encoding {
            folder,
            vae: None,
            text_lora,
            text_lora_files: model.loras.iter().map(|lora| (lora.path.clone(), lora.scale)).collect(),
            clip_skip: model.overrides.clip_skip as i64,
            device: self.request.device,
            cache_dir: &self.request.cache_dir,
            dtype: CacheDtype::Float32,
            min_size: 0,
            workers: self.request.workers,
            resolution: *resolution,
            latent_shape: *latent_shape,
        };
        encoding.fill(&plan, self.progress, self.stop)
    }
}

impl Loaded {
    fn new(folder: &ModelFolder, model: &NamedModel, lora: LoraWeights, request: &PairsRequest) -> Result<Self> {
        let master = if request.kind == Kind::Double { Kind::Double } else { Kind::Float };
        let machine = Machine { device: request.device, compute: request.kind, master };
        let mut denoiser = folder.load_denoiser(model.unet.as_deref(), &machine.frozen())?;
        let lora = Lora::of_networks([(Network::Unet, lora)]);
        let adapters = lora.attach(Network::Unet, denoiser.network.as_mut())?;
        let name = denoiser.network.architecture().output_layer();
        let parameters = denoiser.network.named_parameters();
        let last = parameters.into_iter().find(|(parameter, _)| parameter == name);
        // The graph begins here: a backward pass is one of the last layer alone.
        let last = last.with_context(|| format!("the network has no {name}"))?.1.set_requires_grad(true);
        Ok(Self { denoiser, adapters, machine, last })
    }

    /// `batch`: all draws of one pair, an item each.
    fn pair(&self, model: &str, batch: &Batch) -> Result<Measured> {
        let Batch { latents, noise, levels, conditioning, items } = batch;
        let noised = Noised::new(&self.denoiser, self.machine, latents, noise, levels, conditioning);
        let residuals = noised.residuals(&self.denoiser, self.adapters)?;
        let errors = mean_square(&residuals);
        let factor = self.denoiser.process.error_factor(&noised.levels).to_kind(errors.kind());
        let of_margins = numbers(&(&errors * factor));
        let gradients = gradients(&errors, &self.last)?;
        let mut draws = Vec::new();
        for item in items {
            let (Some(w), Some(l)) = (item.rows.first().copied(), item.rows.get(1).copied()) else {
                bail!("pair {}: expected two pictures", item.id);
            };
            let (w_at, l_at) = (w as usize, l as usize);
            let errors = [of_margins[w_at], of_margins[l_at]];
            if let Some(error) = errors.iter().find(|error| !error.is_finite()) {
                bail!(
                    "the error of {model:?} on pair {} at timestep {} is {error}; look at the pair, or at the weights",
                    item.id,
                    item.level
                );
            }
            let output = |row: i64| output_gradient(&residuals.get(row));
            draws.push(Measured {
                errors,
                ches_output: ches(&output(w), &output(l)),
                ches_last_layer: ches(&gradients[w_at], &gradients[l_at]),
            });
        }
        let over_draws = |of: fn(&Measured) -> f64| mean(draws.iter().map(of)).context("a pair without draws");
        Ok(Measured {
            errors: [over_draws(|m| m.errors[0])?, over_draws(|m| m.errors[1])?],
            ches_output: over_draws(|m| m.ches_output)?,
            ches_last_layer: over_draws(|m| m.ches_last_layer)?,
        })
    }
}

fn batch_options(folder: &ModelFolder, resolution: i64, draws: &Draws) -> BatchOptions {
    let latent = folder.latent();
    BatchOptions {
        posterior: Posterior::Mean,
        crop: CropRule::Center,
        flip: 0.0,
        prompt_dropout: 0.0,
        scaling_factor: latent.scale,
        shift_factor: latent.shift,
        resolution: resolution as u32,
        latent_shape: latent.shape(resolution, resolution),
        time_ids: folder.family().tells_sizes().then_some(TimeIds::TrueSizes),
        images: Images::All,
        noise: NoiseRule::Shared,
        timesteps: TimestepLaw::all(draws.range),
        scorer: None,
        weighting: None,
        desirable_share: None,
    }
}
