//! A model in memory with the latents and embeddings of some items.

use super::models::NamedModel;
use crate::data::batches::{Batch, BatchOptions, Batches, CropRule, Images, NoiseRule, Posterior, TimeIds};
use crate::data::cache::CacheDtype;
use crate::data::draws::Draws;
use crate::data::encoding::{Encoded, Encoding};
use crate::data::items::{ImageRef, Item};
use crate::data::timesteps::TimestepLaw;
use crate::networks::{Machine, Noised};
use crate::painting::{check_size, read_loras};
use crate::progress::{Progress, Stop};
use anyhow::Result;
use pipelines::Levels;
use pipelines::families::{Denoiser, ModelFolder};
use pipelines::lora::{Lora, Network};
use pipelines::models::AdapterSet;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// How models are loaded and pictures encoded.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Shared noise levels per item, each with noise of its own.
    pub draws: u64,
    /// Pixels per side; `None`: the training size of the network.
    pub resolution: Option<i64>,
    pub device: Device,
    /// Data type of the network.
    pub kind: Kind,
    /// Threads that decode pictures.
    pub workers: usize,
    pub cache_dir: &'a Path,
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
    /// The part in which two spaces differ; `None` for equal ones.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        match (self == other, self.vae_sha256 == other.vae_sha256) {
            (true, _) => None,
            (false, true) => Some("noise schedule"),
            (false, false) => Some("VAE"),
        }
    }
}

/// A model in memory with encoded items.
pub struct Opened {
    pub denoiser: Denoiser,
    pub adapters: Option<AdapterSet>,
    pub machine: Machine,
    pub space: Space,
    draws: u64,
    batches: Batches,
    encoded: Encoded,
}

impl Opened {
    /// Encodes the items' pictures and prompts and the empty prompt, then loads the network.
    ///
    /// # Errors
    /// Files that cannot be read; [`crate::progress::Stopped`] after a signal: finished records are kept.
    pub fn open(
        model: &NamedModel,
        items: &[Item],
        options: Options,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<Self> {
        let Options { device, kind, draws: count, .. } = options;
        let folder = model.request(device, kind).folder(progress)?;
        let resolution = options.resolution.unwrap_or_else(|| folder.native_resolution());
        check_size(resolution, resolution, folder.vae().factor())?;
        let process = folder.process();
        let draws = Draws { seed: 0, draws_per_pair: 0, range: process.range() };
        let batches = Batches::new(Vec::new(), draws, batch_options(&folder, resolution, &draws))?;
        let mut lora = read_loras(&model.loras, &folder.lora_targets())?;
        let unet = lora.take(Network::Unet);
        let mut plan = batches.plan(0..0)?;
        batches.plan_validation(&mut plan, items);
        plan.prompt("");
        let encoding = Encoding {
            folder: &folder,
            vae: None,
            text_lora: &lora,
            text_lora_files: model.loras.iter().map(|lora| (lora.path.clone(), lora.scale)).collect(),
            clip_skip: model.overrides.clip_skip as i64,
            device,
            cache_dir: options.cache_dir,
            dtype: CacheDtype::Float32,
            min_size: 0,
            workers: options.workers,
            resolution: batches.options().resolution,
            latent_shape: batches.options().latent_shape,
        };
        let encoded = encoding.fill(&plan, progress, stop)?;
        let master = if kind == Kind::Double { Kind::Double } else { Kind::Float };
        let machine = Machine { device, compute: kind, master };
        let mut denoiser = folder.load_denoiser(model.unet.as_deref(), &machine.frozen())?;
        let adapters = Lora::of_networks([(Network::Unet, unet)]).attach(Network::Unet, denoiser.network.as_mut())?;
        let levels: Vec<f64> = (0..count).map(|j| draws.val_level(j, count)).collect();
        let noise = Vec::<f64>::try_from(process.noise_to_signal(&Levels::new(&levels)))?;
        let space = Space { vae_sha256: encoded.vae_sha256.clone(), resolution, noise };
        Ok(Self { denoiser, adapters, machine, space, draws: count, batches, encoded })
    }

    /// All draws of an item, an item of the batch each; `None` if a picture cannot be read. Noise follows from the draw
    /// and the item's id.
    ///
    /// # Errors
    /// A cache record damaged since.
    pub fn batch(&self, item: &Item) -> Result<Option<Batch>> {
        self.batches.validation_batch(item, self.draws, &self.encoded.latents, &self.encoded.texts)
    }

    /// Noised latents of a batch.
    pub fn noised(&self, batch: &Batch) -> Noised {
        let Batch { latents, noise, levels, conditioning, .. } = batch;
        Noised::new(&self.denoiser, self.machine, latents, noise, levels, conditioning)
    }

    /// Mean squared errors `[R]` in the space of margins (noise), from those of the network's own space.
    pub fn of_margins(&self, errors: &Tensor, levels: &Levels) -> Tensor {
        errors * self.denoiser.process.error_factor(levels).to_kind(errors.kind())
    }

    /// Pictures that cannot be read, with the reason.
    pub fn unreadable(&self) -> &BTreeMap<ImageRef, String> {
        self.encoded.latents.unreadable()
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
        block: None,
    }
}
