//! A model of the diffusers layout, or a single file seen as one. All its errors are found before weights are read.

use super::configs::{Configs, Latent};
use super::declaration::{DIFFUSERS, Declaration, EmptySide, Family, TRANSFORMERS, TextPart};
use super::denoiser::Denoiser;
use super::files::ModelFiles;
use super::layout;
use super::registry::of_class;
use super::relatives::{SUPPORTED, refuse_class};
use super::text::{Encoder, TextEncoder};
use crate::error::{Error, Result};
use crate::hub::Location;
use crate::lora::LoraTargets;
use crate::models::{AutoencoderKl, ClipTextConfig, ClipTextModel, ConfigFile, VaeConfig};
use crate::network::Architecture;
use crate::process::Process;
use crate::schedulers::{PredictionType, SchedulerConfig};
use crate::text::Tokenizer;
use crate::weights::original::vae_place;
use crate::weights::{Entry, LoadOptions, TensorFile, WeightStore, write_file, write_streaming};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the VAE among the parts of a model.
const VAE: &str = "vae";

const FORCE_ZEROS: &str = "force_zeros_for_empty_prompt";

/// A model whose model_index.json and config.json files are read and consistent; no weights yet. A single-file
/// checkpoint has the same interface: [`ModelFiles`] adds the descriptions of its family.
#[derive(Debug)]
pub struct ModelFolder {
    files: ModelFiles,
    index: Map<String, Value>,
    declaration: &'static Declaration,
    configs: Configs,
    empty_side: EmptySide,
    weight_files: Vec<(&'static str, PathBuf)>,
}

impl ModelFolder {
    /// Reads the descriptions in a folder, or recognises a single file, and checks that all parts exist and are
    /// consistent.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_variant(path, None)
    }

    /// Opens a location; a hub id is downloaded first. `say` gets one line per downloaded file.
    pub fn find(location: &Location, say: &mut dyn FnMut(&str)) -> Result<Self> {
        Self::open_variant(&location.fetch(say)?, location.variant.as_deref())
    }

    /// Opens a model with a variant of the weight files, for example `fp16`. None: the plain files, or fp16 without
    /// plain ones.
    pub fn open_variant(path: &Path, variant: Option<&str>) -> Result<Self> {
        let files = ModelFiles::open(path, variant)?;
        let index = read_index(&files)?;
        let declaration = declaration_of(path, &index)?;
        for (part, classes) in declaration.parts() {
            check_part(&files, &index, part, &classes)?;
        }
        check_foreign_parts(path, &index, declaration)?;
        let mut weight_files = Vec::new();
        for (part, stem) in declaration.weights() {
            weight_files.extend(files.weight_files(part, stem)?.into_iter().map(|file| (part, file)));
        }
        let empty_side = empty_side(path, &index, declaration)?;
        let configs = Configs::read(&files, declaration)?;
        // Families of one pipeline class differ in their networks.
        let width = Some(configs.network.context_width());
        let declaration = of_class(declaration.pipeline_class, width).unwrap_or(declaration);
        Ok(Self { files, index, declaration, configs, empty_side, weight_files })
    }

    /// Replaces the noise process of scheduler_config.json; None keeps a value.
    ///
    /// # Errors
    /// Epsilon prediction with zero terminal SNR: at abar = 0 the noise has no information about the picture.
    pub fn override_noise_process(
        &mut self,
        prediction_type: Option<PredictionType>,
        zero_terminal_snr: Option<bool>,
    ) -> Result<()> {
        self.configs.scheduler = self.configs.scheduler.overridden(prediction_type, zero_terminal_snr)?;
        Ok(())
    }

    /// The denoiser with its noise process; `unet_dir` replaces the model's own network.
    pub fn load_denoiser(&self, unet_dir: Option<&Path>, options: &LoadOptions) -> Result<Denoiser> {
        let (config, store) = self.network_parts(unet_dir)?;
        let network = config.load(store, options).map_err(self.declaration.network.explain)?;
        let mut process = self.process();
        process.move_to(options.device);
        Ok(Denoiser { network, process })
    }

    /// The noise process of the model.
    pub fn process(&self) -> Box<dyn Process> {
        (self.declaration.process)(&self.configs.scheduler)
    }

    /// The VAE. `other` replaces the model's own: a component folder, or a file of the original layout with the
    /// model's own shape and scaling_factor.
    pub fn load_vae(&self, other: Option<&Path>, options: &LoadOptions) -> Result<AutoencoderKl> {
        let (config, store) = self.vae_parts(other)?;
        AutoencoderKl::from_store(config, store, options)
    }

    pub(super) fn network_parts(&self, other: Option<&Path>) -> Result<(Arc<dyn Architecture>, WeightStore)> {
        match other {
            Some(dir) => {
                let config = self.configs.other_network(ConfigFile::read(dir)?, self.declaration)?;
                Ok((config, WeightStore::open_component(dir, DIFFUSERS)?))
            }
            None => {
                let store = self.files.store(self.declaration.network.component, DIFFUSERS)?;
                Ok((self.configs.network.clone(), store))
            }
        }
    }

    /// Configuration of the model's own VAE or its replacement.
    pub fn vae_config(&self, other: Option<&Path>) -> Result<VaeConfig> {
        let config = match other {
            Some(dir) if !dir.is_file() => VaeConfig::read(dir)?,
            _ => self.configs.vae.clone(),
        };
        self.configs.check_vae(&config)?;
        Ok(config)
    }

    pub(super) fn vae_parts(&self, other: Option<&Path>) -> Result<(VaeConfig, WeightStore)> {
        let config = self.vae_config(other)?;
        let store = match other {
            Some(file) if file.is_file() => vae_of_file(file, &self.configs.vae)?,
            Some(dir) => WeightStore::open_component(dir, DIFFUSERS)?,
            None => self.files.store(VAE, DIFFUSERS)?,
        };
        Ok((config, store))
    }

    /// Component, weights and configuration of every text encoder.
    pub(super) fn text_parts(&self) -> Result<Vec<(&'static str, WeightStore, &ClipTextConfig)>> {
        let parts = self.declaration.text.iter().zip(&self.configs.text);
        parts.map(|(part, config)| Ok((part.encoder, self.files.store(part.encoder, TRANSFORMERS)?, config))).collect()
    }

    /// The tokenizer of every text encoder; no weights are read.
    pub fn tokenizers(&self) -> Result<Vec<Tokenizer>> {
        let parts = self.declaration.text.iter().zip(&self.configs.text);
        let open = |(part, config): (&TextPart, &ClipTextConfig)| {
            let text = |name: &str| self.files.text(&format!("{}/{name}", part.tokenizer));
            Tokenizer::from_texts(&self.path().join(part.tokenizer), &text, config.max_length)
        };
        parts.map(open).collect()
    }

    /// Tokenizers and text encoders.
    pub fn load_text(&self, options: &LoadOptions) -> Result<TextEncoder> {
        let parts = self.tokenizers()?.into_iter().zip(self.text_parts()?);
        let encoders = parts.map(|(tokenizer, (_, store, config))| {
            Ok(Encoder { tokenizer, clip: ClipTextModel::from_store(config.clone(), store, options)? })
        });
        TextEncoder::new(encoders.collect::<Result<_>>()?, self.declaration, options.device)
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    pub fn family(&self) -> Family {
        self.declaration.family(self.configs.scheduler.prediction_type)
    }

    /// The layers available to a LoRA of this model.
    pub fn lora_targets(&self) -> LoraTargets {
        LoraTargets::new(&*self.configs.network, &self.configs.text)
    }

    /// The description of the denoiser.
    pub fn network(&self) -> &dyn Architecture {
        &*self.configs.network
    }

    /// Shape and scale of latents.
    pub fn latent(&self) -> Latent {
        let vae = &self.configs.vae;
        Latent { channels: vae.latent_channels, factor: vae.factor(), scale: vae.scaling_factor, shift: 0.0 }
    }

    /// Side of the denoiser's training pictures in pixels.
    pub fn native_resolution(&self) -> i64 {
        self.configs.network.native_side() * self.configs.vae.factor()
    }

    pub fn vae(&self) -> &VaeConfig {
        &self.configs.vae
    }

    /// One configuration per text encoder.
    pub fn text(&self) -> &[ClipTextConfig] {
        &self.configs.text
    }

    pub fn scheduler(&self) -> &SchedulerConfig {
        &self.configs.scheduler
    }

    /// Conditioning of the side of guidance without a prompt.
    pub fn empty_side(&self) -> EmptySide {
        self.empty_side
    }

    /// The largest clip_skip for which every text encoder has layers: at most down to the token embeddings.
    pub fn most_clip_skip(&self) -> usize {
        let blocks = self.configs.text.iter().map(|text| text.layers as usize).min().unwrap_or_default();
        blocks.saturating_sub(self.declaration.layers_before_last)
    }

    /// Component -> weight file (each shard and the index), for hashes.
    pub fn weight_files(&self) -> Vec<(&'static str, PathBuf)> {
        self.weight_files.clone()
    }

    /// The weight files of the VAE.
    pub fn vae_files(&self) -> Vec<PathBuf> {
        self.weight_files.iter().filter(|(part, _)| *part == VAE).map(|(_, file)| file.clone()).collect()
    }

    /// Every file that affects results: weights, config.json of each part, the files of tokenizers and scheduler;
    /// sorted. For a single file the file alone: missing descriptions are part of the program.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = self.weight_files.iter().map(|(_, file)| file.clone()).collect();
        for (part, _) in self.declaration.parts() {
            files.extend(self.files.texts_of(part)?.into_keys().map(|name| self.path().join(part).join(name)));
        }
        files.retain(|file| file.is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The weight files of the text encoders, for hashes.
    pub fn text_files(&self) -> Vec<PathBuf> {
        let own = |name: &&str| self.declaration.text.iter().any(|part| part.encoder == *name);
        self.weight_files.iter().filter(|(name, _)| own(name)).map(|(_, file)| file.clone()).collect()
    }

    /// Every description that affects the embeddings of prompts, for hashes: configurations and tokenizers.
    pub fn text_descriptions(&self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for part in self.declaration.text {
            texts.extend(self.files.text(&format!("{}/config.json", part.encoder))?);
            texts.extend(self.files.texts_of(part.tokenizer)?.into_values());
        }
        Ok(texts)
    }

    /// The VAE's config.json as text, for hashes.
    pub fn vae_description(&self) -> Result<String> {
        Ok(self.files.text("vae/config.json")?.unwrap_or_default())
    }

    /// Writes model_index.json and copies every part except the denoiser. With a denoiser saved beside them the
    /// folder loads in diffusers. An overridden noise process is written into its scheduler_config.json.
    pub fn copy_without_network(&self, to: &Path) -> Result<()> {
        let stems = self.declaration.weights();
        for (part, _) in self.declaration.parts().iter().filter(|(part, _)| *part != self.declaration.network.component)
        {
            self.files.write_texts(part, &to.join(part))?;
            if let Some((_, stem)) = stems.iter().find(|(name, _)| name == part) {
                copy_weights(&self.files.store(part, stem)?, &to.join(part), stem)?;
            }
        }
        self.configs.scheduler.write(&to.join("scheduler"))?;
        let text = format!("{:#}\n", self.index());
        write_file(&to.join("model_index.json"), |out| out.write_all(text.as_bytes()))
    }

    /// model_index.json with the components that this program runs and no others.
    pub(super) fn index(&self) -> Value {
        let parts = self.declaration.parts();
        let mut index = self.index.clone();
        for (key, value) in &mut index {
            let is_component = value.is_array() && !parts.iter().any(|(part, _)| part == key);
            if is_component {
                *value = json!([null, null]);
            }
        }
        index.extend(self.declaration.index_entries.iter().map(|(key, value)| (key.to_string(), json!(value))));
        Value::Object(index)
    }

    pub(super) fn model_files(&self) -> &ModelFiles {
        &self.files
    }

    pub(super) fn declaration(&self) -> &'static Declaration {
        self.declaration
    }
}

fn read_index(files: &ModelFiles) -> Result<Map<String, Value>> {
    let Some(text) = files.text("model_index.json")? else {
        let hint = "give the folder that holds unet/, vae/, text_encoder/, tokenizer/, scheduler/ and this file";
        return Err(Error::missing(files.path(), "model_index.json", hint));
    };
    let path = || files.path().join("model_index.json");
    serde_json::from_str(&text).map_err(|source| Error::Json { path: path(), source })
}

fn declaration_of(path: &Path, index: &Map<String, Value>) -> Result<&'static Declaration> {
    let Some(class) = index.get("_class_name").and_then(Value::as_str) else {
        return Err(Error::unusable(path, "model_index.json has no _class_name", SUPPORTED));
    };
    of_class(class, None).ok_or_else(|| refuse_class(path, class, index))
}

/// The class of a component; None if it is absent or `[null, null]`.
fn class_of<'a>(index: &'a Map<String, Value>, part: &str) -> Option<&'a str> {
    index.get(part)?.as_array()?.get(1)?.as_str()
}

fn check_part(files: &ModelFiles, index: &Map<String, Value>, part: &str, classes: &[&str]) -> Result<()> {
    let path = files.path();
    let Some(class) = class_of(index, part) else {
        return Err(Error::missing(path, format!("component {part} in model_index.json"), SUPPORTED));
    };
    if !classes.is_empty() && !classes.contains(&class) {
        let problem = format!("the component {part} is a {class}, expected {}", classes.join(" or "));
        return Err(Error::unusable(path, problem, SUPPORTED));
    }
    if !files.has(part) {
        let hint = "model_index.json names it: download the whole model again";
        return Err(Error::missing(path, format!("component folder {part}/"), hint));
    }
    Ok(())
}

/// Refuses components that affect a picture and that the family does not support.
fn check_foreign_parts(path: &Path, index: &Map<String, Value>, declaration: &Declaration) -> Result<()> {
    let own = |part: &&str| declaration.parts().iter().any(|(known, _)| known == part);
    let foreign = ["text_encoder_2", "tokenizer_2", "image_encoder"].into_iter().filter(|part| !own(part));
    match foreign.into_iter().find(|part| class_of(index, part).is_some()) {
        Some(part) => {
            let class = declaration.pipeline_class;
            let problem = format!("its component {part} does not belong to a {class} as it is supported");
            Err(Error::unusable(path, problem, SUPPORTED))
        }
        None => Ok(()),
    }
}

fn empty_side(path: &Path, index: &Map<String, Value>, declaration: &Declaration) -> Result<EmptySide> {
    let Some(default) = declaration.zeros_for_empty_prompt else { return Ok(EmptySide::Encoded) };
    let zeros = match index.get(FORCE_ZEROS) {
        None | Some(Value::Null) => default,
        Some(Value::Bool(zeros)) => *zeros,
        Some(other) => {
            let file = path.join("model_index.json");
            return Err(Error::config(&file, FORCE_ZEROS, "true or false", other.to_string()));
        }
    };
    Ok(if zeros { EmptySide::Zeros } else { EmptySide::Encoded })
}

/// Writes all tensors of a component unchanged, one after the other.
fn copy_weights(store: &WeightStore, to: &Path, stem: &str) -> Result<()> {
    let mut entries = Vec::new();
    for name in store.names() {
        let (Some(kind), Some(shape)) = (store.kind(name), store.shape(name)) else {
            let problem = format!("{name} is of a type that cannot be read");
            return Err(Error::unusable(store.path(), problem, "convert the file to float32, float16 or bfloat16"));
        };
        entries.push(Entry { name: name.to_string(), kind, shape });
    }
    let path = to.join(format!("{stem}.safetensors"));
    write_streaming(&path, entries, &[("format", "pt")], &mut |name| store.tensor(name))
}

/// A VAE in a file of its own, in the original layout or under diffusers' names.
fn vae_of_file(path: &Path, config: &VaeConfig) -> Result<WeightStore> {
    let file = Arc::new(TensorFile::open(path)?);
    if file.names().any(|name| name.contains("down_blocks.")) {
        return WeightStore::from_file(path);
    }
    let prefix = if file.names().any(|name| name.starts_with(layout::VAE)) { layout::VAE } else { "" };
    let levels = config.block_out_channels.len();
    let shapes = AutoencoderKl::parameter_shapes(config);
    let place = |(name, _): (String, Vec<i64>)| {
        vae_place(&name, levels).map(|(at, form)| (name, format!("{prefix}{at}"), form))
    };
    Ok(WeightStore::of_places(&file, shapes.into_iter().filter_map(place)))
}
