//! Fills the caches of latents and embeddings from the encoders of a model.

use super::batches::Plan;
use super::cache::{CacheDtype, LatentCache, LatentOptions};
use super::image_ref::ImageRef;
use super::text_cache::{TextCache, TextOptions};
use crate::machine::hashes::{HashMemory, of_bytes};
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result};
use pipelines::Conditioning;
use pipelines::families::{EmptySide, ModelFolder};
use pipelines::lora::Lora;
use pipelines::models::AutoencoderKl;
use pipelines::weights::{LoadOptions, component_files};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// Everything that latents and embeddings depend on, and where they are kept.
pub struct Encoding<'a> {
    pub folder: &'a ModelFolder,
    /// Replaces the folder's VAE: a component folder, or a file of the original layout.
    pub vae: Option<&'a Path>,
    /// Text encoder part of the LoRAs; may be empty.
    pub text_lora: &'a Lora,
    /// Files of that part with their scales, for the key of the cache.
    pub text_lora_files: Vec<(PathBuf, f64)>,
    pub clip_skip: i64,
    pub device: Device,
    pub cache_dir: &'a Path,
    pub dtype: CacheDtype,
    /// Least shorter side of an image in pixels; 0: any.
    pub min_size: i64,
    /// Threads that decode images.
    pub workers: usize,
    /// Pixels per side of a view.
    pub resolution: u32,
    /// C, h, w
    pub latent_shape: [i64; 3],
}

/// Records of a plan.
pub struct Encoded {
    pub latents: LatentCache,
    pub texts: TextCache,
    /// One row for the side of guidance without a prompt, as in the model's pipeline.
    pub empty_side: Conditioning,
    /// SHA-256 over the files of the VAE.
    pub vae_sha256: String,
}

impl Encoding<'_> {
    /// Encodes what the caches lack of a plan, which has the prompt "". An encoder is loaded for the first missing
    /// record, in float32, and dropped at the end.
    ///
    /// # Errors
    /// Files that cannot be read; [`crate::progress::Stopped`] after a signal: finished records are kept.
    pub fn fill(&self, plan: &Plan, progress: &dyn Progress, stop: &Stop) -> Result<Encoded> {
        let hashes = self.hashes()?;
        let latents = self.latents(&hashes.vae, plan, progress, stop)?;
        let encoders = self.encoders();
        let mut text = None;
        let mut fill = |clip_skip: i64, prompts: &[String]| -> Result<TextCache> {
            let (cache_dir, encoder_sha256) = (self.cache_dir.to_path_buf(), hashes.text.clone());
            let mut texts = TextCache::open(TextOptions { cache_dir, encoder_sha256, clip_skip, dtype: self.dtype })?;
            let mut encode_prompt = |prompt: &str| {
                if text.is_none() {
                    let mut loaded = self.folder.load_text(&encoders)?;
                    let adapters = loaded.attach(self.text_lora)?;
                    text = Some((loaded, adapters));
                }
                let (text, adapters) = text.as_ref().context("the text encoder was loaded just above")?;
                Ok(text.encode_prompts(&[prompt], clip_skip as usize, Some(adapters))?)
            };
            texts.ensure(prompts, &mut encode_prompt, progress, stop)?;
            Ok(texts)
        };
        let texts = fill(self.clip_skip, &plan.prompts)?;
        let empty_side = match (self.folder.empty_side(), self.clip_skip) {
            (EmptySide::Zeros, _) => texts.conditioning(&[""])?.without_prompt(),
            (EmptySide::Encoded, 0) => texts.conditioning(&[""])?,
            // As in diffusers, clip_skip applies to prompts and not to the side without one.
            (EmptySide::Encoded, _) => fill(0, &[String::new()])?.conditioning(&[""])?,
        };
        Ok(Encoded { latents, texts, empty_side, vae_sha256: hashes.vae })
    }

    /// Encodes the latents of some views and the embeddings of some prompts ahead of a run, chunk by chunk, so that only
    /// one chunk of views is in memory. Calls `done` with the unreadable images after each chunk. `total`: views and prompts
    /// of all chunks.
    ///
    /// # Errors
    /// Those of [`fill`](Self::fill); finished records are kept.
    pub fn fill_chunks(
        &self,
        chunks: &mut dyn Iterator<Item = Plan>,
        total: u64,
        progress: &dyn Progress,
        stop: &Stop,
        done: &mut dyn FnMut(&BTreeMap<ImageRef, String>),
    ) -> Result<()> {
        let hashes = self.hashes()?;
        let (mut vae, mut text) = (None, None);
        let mut latents = self.open_latents(&hashes.vae)?;
        let (cache_dir, encoder_sha256) = (self.cache_dir.to_path_buf(), hashes.text.clone());
        let (clip_skip, dtype) = (self.clip_skip, self.dtype);
        let mut texts = TextCache::open(TextOptions { cache_dir, encoder_sha256, clip_skip, dtype })?;
        progress.begin("encode", 0, total);
        let (part, mut encoded) = (Part(progress), 0);
        for plan in chunks {
            let mut encode_prompt = |prompt: &str| {
                if text.is_none() {
                    text = Some(self.folder.load_text(&self.encoders())?);
                }
                let text = text.as_ref().context("the text encoder was loaded just above")?;
                Ok(text.encode_prompts(&[prompt], clip_skip as usize, None)?)
            };
            texts.ensure(&plan.prompts, &mut encode_prompt, &part, stop)?;
            latents.ensure(&plan.views, &mut |pixels| self.encode(&mut vae, pixels), &part, stop)?;
            done(latents.unreadable());
            latents.forget();
            encoded += (plan.views.len() + plan.prompts.len()) as u64;
            progress.advance(encoded, "");
        }
        progress.end();
        Ok(())
    }

    /// Loads the VAE for the first image.
    fn encode(&self, vae: &mut Option<AutoencoderKl>, pixels: &tch::Tensor) -> Result<(tch::Tensor, tch::Tensor)> {
        if vae.is_none() {
            *vae = Some(self.folder.load_vae(self.vae, &self.encoders())?);
        }
        let vae = vae.as_ref().context("the VAE was loaded just above")?;
        let moments = vae.encode(&pixels.to_device(self.device))?;
        Ok((moments.mean, moments.std))
    }

    fn encoders(&self) -> LoadOptions {
        LoadOptions { device: self.device, kind: Kind::Float }
    }

    fn latents(&self, vae_sha256: &str, plan: &Plan, progress: &dyn Progress, stop: &Stop) -> Result<LatentCache> {
        let mut latents = self.open_latents(vae_sha256)?;
        let mut vae = None;
        latents.ensure(&plan.views, &mut |pixels| self.encode(&mut vae, pixels), progress, stop)?;
        Ok(latents)
    }

    fn open_latents(&self, vae_sha256: &str) -> Result<LatentCache> {
        LatentCache::open(LatentOptions {
            cache_dir: self.cache_dir.to_path_buf(),
            vae_sha256: vae_sha256.to_string(),
            resolution: self.resolution,
            latent_shape: self.latent_shape,
            dtype: self.dtype,
            min_size: self.min_size,
            workers: self.workers,
        })
    }

    /// Hashes of all inputs of latents and embeddings: weights, their config.json, the tokenizer, and LoRAs of the text
    /// encoders.
    fn hashes(&self) -> Result<ComponentHashes> {
        let mut memory = HashMemory::open(self.cache_dir);
        let mut of_files = |files: &[PathBuf], texts: &[String]| -> Result<String> {
            let files = memory.of_files(files)?;
            let texts = texts.iter().map(|text| of_bytes(text.as_bytes()));
            Ok(of_bytes(files.into_iter().chain(texts).collect::<Vec<_>>().join("\n").as_bytes()))
        };
        let (vae, description) = match self.vae {
            Some(file) if file.is_file() => (vec![file.to_path_buf()], self.folder.vae_description()?),
            Some(dir) => {
                let config = dir.join("config.json");
                let text =
                    std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
                (component_files(dir, "diffusion_pytorch_model", None)?, text)
            }
            None => (self.folder.vae_files(), self.folder.vae_description()?),
        };
        let (mut text, mut descriptions) = (self.folder.text_files(), self.folder.text_descriptions()?);
        if !self.text_lora.is_empty() {
            text.extend(self.text_lora_files.iter().map(|(path, _)| Lora::file_in(path)));
            // Not of a LoRA at full strength: records of runs keep their key.
            let scales = self.text_lora_files.iter().filter(|(_, scale)| *scale != 1.0);
            descriptions.extend(scales.map(|(path, scale)| format!("{}:{scale}", path.display())));
        }
        let hashes = ComponentHashes { vae: of_files(&vae, &[description])?, text: of_files(&text, &descriptions)? };
        memory.save();
        Ok(hashes)
    }
}

/// Progress of one chunk of many: only lines are passed on.
struct Part<'a>(&'a dyn Progress);

impl Progress for Part<'_> {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn line(&self, text: &str) {
        self.0.line(text);
    }
    fn forecast(&self, _: &str) {}
}

struct ComponentHashes {
    vae: String,
    text: String,
}
