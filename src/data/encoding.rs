//! Fills the caches of latents and embeddings from the encoders of a model.

use super::batches::Plan;
use super::cache::{CacheDtype, LatentCache, LatentOptions};
use super::text_cache::{TextCache, TextOptions};
use crate::machine::hashes::{HashMemory, of_bytes};
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result};
use pipelines::Conditioning;
use pipelines::families::{EmptySide, ModelFolder};
use pipelines::lora::Lora;
use pipelines::weights::{LoadOptions, component_files};
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

    fn encoders(&self) -> LoadOptions {
        LoadOptions { device: self.device, kind: Kind::Float }
    }

    fn latents(&self, vae_sha256: &str, plan: &Plan, progress: &dyn Progress, stop: &Stop) -> Result<LatentCache> {
        let mut latents = LatentCache::open(LatentOptions {
            cache_dir: self.cache_dir.to_path_buf(),
            vae_sha256: vae_sha256.to_string(),
            resolution: self.resolution,
            latent_shape: self.latent_shape,
            dtype: self.dtype,
            workers: self.workers,
        })?;
        let mut vae = None;
        let mut encode_image = |pixels: &tch::Tensor| {
            if vae.is_none() {
                vae = Some(self.folder.load_vae(self.vae, &self.encoders())?);
            }
            let vae = vae.as_ref().context("the VAE was loaded just above")?;
            let moments = vae.encode(&pixels.to_device(self.device))?;
            Ok((moments.mean, moments.std))
        };
        latents.ensure(&plan.views, &mut encode_image, progress, stop)?;
        Ok(latents)
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

struct ComponentHashes {
    vae: String,
    text: String,
}
