//! A model in the diffusers layout: everything that can be wrong with it is found before weights are read.

use super::relatives::{SUPPORTED, refuse_class};
use super::{Configs, DECLARATIONS, Declaration, Denoiser, EmptySide, Encoder, Family, TextEncoder};
use crate::error::{Error, Result};
use crate::lora::LoraTargets;
use crate::models::{AutoencoderKl, ClipTextConfig, ClipTextModel, UNet2DConditionModel, UNetConfig, VaeConfig};
use crate::schedulers::{NoiseSchedule, PredictionType, SchedulerConfig};
use crate::text::Tokenizer;
use crate::weights::{LoadOptions, component_files, write_file};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const TOKENIZERS: &[&str] = &["CLIPTokenizer", "CLIPTokenizerFast"];
const FORCE_ZEROS: &str = "force_zeros_for_empty_prompt";

/// A model folder whose model_index.json and every config.json are read and fit together; no weights yet.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    index: Map<String, Value>,
    declaration: &'static Declaration,
    configs: Configs,
    empty_side: EmptySide,
    weight_files: Vec<(&'static str, PathBuf)>,
}

impl ModelFolder {
    /// Reads the descriptions in a folder and checks that all parts are there and fit together.
    pub fn open(path: &Path) -> Result<Self> {
        let index = read_index(path)?;
        let declaration = declaration_of(path, &index)?;
        for (part, classes) in declaration.parts() {
            check_part(path, &index, part, &classes)?;
        }
        check_foreign_parts(path, &index, declaration)?;
        let mut weight_files = Vec::new();
        for (part, stem) in declaration.weights() {
            weight_files.extend(component_files(&path.join(part), stem, None)?.into_iter().map(|file| (part, file)));
        }
        let empty_side = empty_side(path, &index, declaration)?;
        let configs = Configs::read(path, declaration)?;
        Ok(Self { path: path.to_path_buf(), index, declaration, configs, empty_side, weight_files })
    }

    /// Puts another noise process in place of the one that scheduler_config.json describes; None keeps a value.
    ///
    /// # Errors
    /// Epsilon prediction with zero terminal SNR: at abar = 0 the noise says nothing of the picture.
    pub fn override_noise_process(
        &mut self,
        prediction_type: Option<PredictionType>,
        zero_terminal_snr: Option<bool>,
    ) -> Result<()> {
        self.configs.scheduler = self.configs.scheduler.overridden(prediction_type, zero_terminal_snr)?;
        Ok(())
    }

    /// The UNet with its noise schedule; `unet_dir` replaces the folder's own UNet.
    pub fn load_denoiser(&self, unet_dir: Option<&Path>, options: &LoadOptions) -> Result<Denoiser> {
        let own = self.path.join("unet");
        if let Some(dir) = unet_dir {
            self.configs.other_unet(dir, self.declaration)?;
        }
        let schedule = NoiseSchedule::new(&self.configs.scheduler).to_device(options.device);
        Ok(Denoiser { unet: UNet2DConditionModel::load(unet_dir.unwrap_or(&own), options)?, schedule })
    }

    /// The VAE; `vae_dir` replaces the folder's own.
    pub fn load_vae(&self, vae_dir: Option<&Path>, options: &LoadOptions) -> Result<AutoencoderKl> {
        let dir = vae_dir.map_or_else(|| self.path.join("vae"), Path::to_path_buf);
        self.configs.check_vae(&VaeConfig::read(&dir)?)?;
        AutoencoderKl::load(&dir, options)
    }

    /// Tokenizers and text encoders.
    pub fn load_text(&self, options: &LoadOptions) -> Result<TextEncoder> {
        let encoders = self.declaration.text.iter().zip(&self.configs.text).map(|(part, config)| {
            let tokenizer = Tokenizer::open(&self.path.join(part.tokenizer), config.max_length)?;
            Ok(Encoder { tokenizer, clip: ClipTextModel::load(&self.path.join(part.encoder), options)? })
        });
        TextEncoder::new(encoders.collect::<Result<_>>()?, self.declaration, options.device)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn family(&self) -> Family {
        (self.declaration.family)(&self.configs.unet, self.configs.scheduler.prediction_type)
    }

    /// The layers that a LoRA of this model can be on.
    pub fn lora_targets(&self) -> LoraTargets {
        LoraTargets::new(&self.configs.unet, &self.configs.text)
    }

    pub fn unet(&self) -> &UNetConfig {
        &self.configs.unet
    }

    pub fn vae(&self) -> &VaeConfig {
        &self.configs.vae
    }

    /// One configuration for each text encoder.
    pub fn text(&self) -> &[ClipTextConfig] {
        &self.configs.text
    }

    pub fn scheduler(&self) -> &SchedulerConfig {
        &self.configs.scheduler
    }

    /// What guidance tells the side that has no prompt.
    pub fn empty_side(&self) -> EmptySide {
        self.empty_side
    }

    /// The largest clip_skip that every text encoder has layers for: at most down to the token embeddings.
    pub fn most_clip_skip(&self) -> usize {
        let blocks = self.configs.text.iter().map(|text| text.layers as usize).min().unwrap_or_default();
        blocks.saturating_sub(self.declaration.layers_before_last)
    }

    /// Whether the UNet is told the sizes of pictures: `time_ids` of [`crate::models::Conditioning`].
    pub fn takes_time_ids(&self) -> bool {
        self.configs.unet.text_time.is_some()
    }

    /// Component -> weight file (shards and their index one by one), for hashes.
    pub fn weight_files(&self) -> Vec<(&'static str, PathBuf)> {
        self.weight_files.clone()
    }

    /// Every file that results depend on: weights, config.json of each part, the files of tokenizers and scheduler; sorted.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = self.weight_files.iter().map(|(_, file)| file.clone()).collect();
        files.extend(self.declaration.weights().iter().map(|(part, _)| self.path.join(part).join("config.json")));
        files.extend(files_of(&self.path.join("scheduler"))?);
        for part in self.declaration.text {
            files.extend(files_of(&self.path.join(part.tokenizer))?);
        }
        files.retain(|file| file.is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Every file that the embeddings of prompts depend on, for hashes: weights, configurations, tokenizers.
    pub fn text_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for part in self.declaration.text {
            files.extend(self.weight_files.iter().filter(|(name, _)| *name == part.encoder).map(|(_, f)| f.clone()));
            files.push(self.path.join(part.encoder).join("config.json"));
            files.extend(files_of(&self.path.join(part.tokenizer))?);
        }
        Ok(files)
    }

    /// Writes model_index.json and copies every part but the UNet, so that a UNet saved into `to/unet` makes a folder
    /// that diffusers loads as it is. An overridden noise process is written into its scheduler_config.json.
    pub fn copy_without_unet(&self, to: &Path) -> Result<()> {
        let parts = self.declaration.parts();
        for (part, _) in parts.iter().filter(|(part, _)| *part != "unet") {
            copy_files(&self.path.join(part), &to.join(part))?;
        }
        self.configs.scheduler.write(&to.join("scheduler"))?;
        let mut index = self.index.clone();
        for (key, value) in &mut index {
            let is_component = value.is_array() && !parts.iter().any(|(part, _)| part == key);
            if is_component {
                *value = json!([null, null]);
            }
        }
        index.extend(self.declaration.index_entries.iter().map(|(key, value)| (key.to_string(), json!(value))));
        let text = format!("{:#}\n", Value::Object(index));
        write_file(&to.join("model_index.json"), |out| out.write_all(text.as_bytes()))
    }
}

impl Declaration {
    /// Component, the classes that are implemented for it (none listed: the reader of the component decides).
    fn parts(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut parts =
            vec![("scheduler", vec![]), ("unet", vec!["UNet2DConditionModel"]), ("vae", vec!["AutoencoderKL"])];
        for text in self.text {
            parts.extend([(text.encoder, vec![text.class]), (text.tokenizer, TOKENIZERS.to_vec())]);
        }
        parts
    }

    /// Components with weights, and how their files are called.
    fn weights(&self) -> Vec<(&'static str, &'static str)> {
        let text = self.text.iter().map(|text| (text.encoder, "model"));
        text.chain([("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")]).collect()
    }
}

fn read_index(path: &Path) -> Result<Map<String, Value>> {
    let file = path.join("model_index.json");
    if !path.is_dir() {
        let problem = if path.exists() {
            "this is a file, single-file checkpoints are not built yet"
        } else {
            "there is no such folder"
        };
        return Err(Error::unusable(path, problem, "give the path of a model folder in the diffusers layout"));
    }
    if !file.is_file() {
        let hint = "give the folder that holds unet/, vae/, text_encoder/, tokenizer/, scheduler/ and this file";
        return Err(Error::missing(path, "model_index.json", hint));
    }
    let text = std::fs::read_to_string(&file).map_err(|e| Error::io("read", &file, e))?;
    serde_json::from_str(&text).map_err(|source| Error::Json { path: file, source })
}

fn declaration_of(path: &Path, index: &Map<String, Value>) -> Result<&'static Declaration> {
    let Some(class) = index.get("_class_name").and_then(Value::as_str) else {
        return Err(Error::unusable(path, "model_index.json has no _class_name", SUPPORTED));
    };
    let found = DECLARATIONS.iter().find(|declaration| declaration.pipeline_class == class);
    found.copied().ok_or_else(|| refuse_class(path, class, index))
}

/// The class of a component; None where it is absent or `[null, null]`.
fn class_of<'a>(index: &'a Map<String, Value>, part: &str) -> Option<&'a str> {
    index.get(part)?.as_array()?.get(1)?.as_str()
}

fn check_part(path: &Path, index: &Map<String, Value>, part: &str, classes: &[&str]) -> Result<()> {
    let Some(class) = class_of(index, part) else {
        return Err(Error::missing(path, format!("component {part} in model_index.json"), SUPPORTED));
    };
    if !classes.is_empty() && !classes.contains(&class) {
        let problem = format!("the component {part} is a {class}, expected {}", classes.join(" or "));
        return Err(Error::unusable(path, problem, SUPPORTED));
    }
    if !path.join(part).is_dir() {
        let hint = "model_index.json names it: download the whole model again";
        return Err(Error::missing(path, format!("component folder {part}/"), hint));
    }
    Ok(())
}

/// Refuses components that change a picture and that the family does not run.
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

/// The files in a folder, sorted.
fn files_of(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io("read the folder", dir, e))? {
        let path = entry.map_err(|e| Error::io("read the folder", dir, e))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Copies the files of one component; pickles stay behind, nothing here reads them.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(|e| Error::io("create the folder", to, e))?;
    for source in files_of(from)? {
        let wanted = source.extension().is_some_and(|e| ["json", "txt", "safetensors"].iter().any(|known| e == *known));
        if let (true, Some(name)) = (wanted, source.file_name()) {
            let target = to.join(name);
            let mut reader = std::fs::File::open(&source).map_err(|e| Error::io("open", &source, e))?;
            write_file(&target, |out| std::io::copy(&mut reader, out).map(drop))?;
        }
    }
    Ok(())
}
