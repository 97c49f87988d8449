//! A model in the diffusers layout: everything that can be wrong with it is found before weights are read.

use crate::error::{Error, Result};
use crate::families::{Denoiser, Family, TextEncoder};
use crate::models::{AutoencoderKl, ClipTextConfig, ClipTextModel, UNet2DConditionModel, UNetConfig, VaeConfig};
use crate::schedulers::{NoiseSchedule, SchedulerConfig};
use crate::text::Tokenizer;
use crate::weights::{LoadOptions, component_files, write_file};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Component, the classes that are implemented for it (none listed: the reader of the component decides).
const PARTS: [(&str, &[&str]); 5] = [
    ("scheduler", &[]),
    ("text_encoder", &["CLIPTextModel"]),
    ("tokenizer", &["CLIPTokenizer", "CLIPTokenizerFast"]),
    ("unet", &["UNet2DConditionModel"]),
    ("vae", &["AutoencoderKL"]),
];
/// Components with weights, and how their files are called.
const WEIGHTS: [(&str, &str); 3] =
    [("text_encoder", "model"), ("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")];
/// Components that change a picture and that nothing here runs.
const UNSUPPORTED: [&str; 3] = ["text_encoder_2", "tokenizer_2", "image_encoder"];

/// A model folder whose model_index.json and every config.json are read and fit together; no weights yet.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    index: Map<String, Value>,
    unet: UNetConfig,
    vae: VaeConfig,
    text: ClipTextConfig,
    scheduler: SchedulerConfig,
    weight_files: Vec<(&'static str, PathBuf)>,
}

impl ModelFolder {
    /// Reads the descriptions in a folder and checks that all parts are there and fit together.
    pub fn open(path: &Path) -> Result<Self> {
        let index = read_index(path)?;
        check_class(path, &index)?;
        for (part, classes) in PARTS {
            check_part(path, &index, part, classes)?;
        }
        if let Some(part) = UNSUPPORTED.iter().find(|part| class_of(&index, part).is_some()) {
            return Err(Error::unusable(path, format!("its component {part} is not built yet"), SUPPORTED));
        }
        let mut weight_files = Vec::new();
        for (part, stem) in WEIGHTS {
            weight_files.extend(component_files(&path.join(part), stem)?.into_iter().map(|file| (part, file)));
        }
        let folder = Self {
            path: path.to_path_buf(),
            index,
            unet: UNetConfig::read(&path.join("unet"))?,
            vae: VaeConfig::read(&path.join("vae"))?,
            text: ClipTextConfig::read(&path.join("text_encoder"))?,
            scheduler: SchedulerConfig::read(&path.join("scheduler"))?,
            weight_files,
        };
        folder.check_unet(&folder.unet)?;
        folder.check_vae(&folder.vae)?;
        Ok(folder)
    }

    fn check_unet(&self, unet: &UNetConfig) -> Result<()> {
        let file = unet.file();
        let latent = self.vae.latent_channels;
        if unet.in_channels != latent {
            let kind = match unet.in_channels - latent {
                5 => " (an inpainting model: not built yet)",
                4 => " (a model that takes an image: not built yet)",
                _ => "",
            };
            return Err(file.conflict("in_channels", format!("{latent}, the latent_channels of the VAE{kind}")));
        }
        if unet.out_channels != latent {
            return Err(file.conflict("out_channels", format!("{latent}, the latent_channels of the VAE")));
        }
        if unet.text_time.is_some() {
            return Err(file.conflict("addition_embed_type", "null: SDXL is not built yet"));
        }
        if unet.cross_attention_dim != self.text.hidden_size {
            let expected = format!("{}, the hidden_size of the text encoder", self.text.hidden_size);
            return Err(file.conflict("cross_attention_dim", expected));
        }
        Ok(())
    }

    fn check_vae(&self, vae: &VaeConfig) -> Result<()> {
        if vae.latent_channels != self.unet.in_channels {
            let expected = format!("{}, the in_channels of the UNet", self.unet.in_channels);
            return Err(vae.file().conflict("latent_channels", expected));
        }
        if (vae.in_channels, vae.out_channels) != (3, 3) {
            return Err(vae.file().conflict("in_channels", "3 in and 3 out: pictures are RGB"));
        }
        Ok(())
    }

    /// The UNet with its noise schedule; `unet_dir` replaces the folder's own UNet.
    pub fn load_denoiser(&self, unet_dir: Option<&Path>, options: &LoadOptions) -> Result<Denoiser> {
        let dir = unet_dir.map_or_else(|| self.path.join("unet"), Path::to_path_buf);
        self.check_unet(&UNetConfig::read(&dir)?)?;
        let schedule = NoiseSchedule::new(&self.scheduler).to_device(options.device);
        Ok(Denoiser { unet: UNet2DConditionModel::load(&dir, options)?, schedule })
    }

    /// The VAE; `vae_dir` replaces the folder's own.
    pub fn load_vae(&self, vae_dir: Option<&Path>, options: &LoadOptions) -> Result<AutoencoderKl> {
        let dir = vae_dir.map_or_else(|| self.path.join("vae"), Path::to_path_buf);
        self.check_vae(&VaeConfig::read(&dir)?)?;
        AutoencoderKl::load(&dir, options)
    }

    /// Tokenizer and text encoder.
    pub fn load_text(&self, options: &LoadOptions) -> Result<TextEncoder> {
        let tokenizer = Tokenizer::open(&self.path.join("tokenizer"), self.text.max_length)?;
        let clip = ClipTextModel::load(&self.path.join("text_encoder"), options)?;
        Ok(TextEncoder::new(tokenizer, clip, options.device))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn family(&self) -> Family {
        Family::of(self.unet.cross_attention_dim, self.scheduler.prediction_type)
    }

    pub fn unet(&self) -> &UNetConfig {
        &self.unet
    }

    pub fn vae(&self) -> &VaeConfig {
        &self.vae
    }

    pub fn text(&self) -> &ClipTextConfig {
        &self.text
    }

    pub fn scheduler(&self) -> &SchedulerConfig {
        &self.scheduler
    }

    /// Component -> weight file (shards and their index one by one), for hashes.
    pub fn weight_files(&self) -> Vec<(&'static str, PathBuf)> {
        self.weight_files.clone()
    }

    /// Every file that results depend on: weights, config.json of each part, the files of tokenizer and scheduler; sorted.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = self.weight_files.iter().map(|(_, file)| file.clone()).collect();
        files.extend(WEIGHTS.iter().map(|(part, _)| self.path.join(part).join("config.json")));
        for part in ["scheduler", "tokenizer"] {
            let dir = self.path.join(part);
            for entry in std::fs::read_dir(&dir).map_err(|e| Error::io("read the folder", &dir, e))? {
                files.push(entry.map_err(|e| Error::io("read the folder", &dir, e))?.path());
            }
        }
        files.retain(|file| file.is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Writes model_index.json and copies every part but the UNet, so that a UNet saved into `to/unet` makes a folder
    /// that diffusers loads as it is.
    pub fn copy_without_unet(&self, to: &Path) -> Result<()> {
        for (part, _) in PARTS.iter().filter(|(part, _)| *part != "unet") {
            copy_files(&self.path.join(part), &to.join(part))?;
        }
        let mut index = self.index.clone();
        for (key, value) in &mut index {
            let is_component = value.is_array() && !PARTS.iter().any(|(part, _)| part == key);
            if is_component {
                *value = json!([null, null]);
            }
        }
        index.insert("requires_safety_checker".into(), json!(false));
        let text = format!("{:#}\n", Value::Object(index));
        write_file(&to.join("model_index.json"), |out| out.write_all(text.as_bytes()))
    }
}

const SUPPORTED: &str = "use a Stable Diffusion 1.x or 2.x model in the diffusers layout";

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

fn check_class(path: &Path, index: &Map<String, Value>) -> Result<()> {
    match index.get("_class_name").and_then(Value::as_str) {
        Some("StableDiffusionPipeline") => Ok(()),
        Some(class) if class.starts_with("StableDiffusionXL") => {
            Err(Error::unusable(path, format!("{class}: SDXL is not built yet"), SUPPORTED))
        }
        Some(class) => Err(Error::unusable(path, format!("the pipeline class {class} is not implemented"), SUPPORTED)),
        None => Err(Error::unusable(path, "model_index.json has no _class_name", SUPPORTED)),
    }
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

/// Copies the files of one component; pickles stay behind, nothing here reads them.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(|e| Error::io("create the folder", to, e))?;
    let entries = std::fs::read_dir(from).map_err(|e| Error::io("read the folder", from, e))?;
    for entry in entries {
        let source = entry.map_err(|e| Error::io("read the folder", from, e))?.path();
        let wanted = source.extension().is_some_and(|e| ["json", "txt", "safetensors"].iter().any(|known| e == *known));
        if let (true, true, Some(name)) = (wanted, source.is_file(), source.file_name()) {
            let target = to.join(name);
            let mut reader = std::fs::File::open(&source).map_err(|e| Error::io("open", &source, e))?;
            write_file(&target, |out| std::io::copy(&mut reader, out).map(drop))?;
        }
    }
    Ok(())
}
