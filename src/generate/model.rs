//! A model as `--model`, `--unet` and `--lora` name it: loaded, its files hashed.

use crate::config::ConfigError;
use crate::generate::{Painter, PromptMemory};
use crate::hashes::HashMemory;
use crate::progress::Progress;
use anyhow::{Context, Result};
use pipelines::families::{Denoiser, ModelFolder};
use pipelines::hub::Location;
use pipelines::lora::{Lora, LoraTargets, Network};
use pipelines::models::{AdapterSet, AutoencoderKl};
use pipelines::schedulers::PredictionType;
use pipelines::weights::{LoadOptions, component_files};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::{Device, Kind};

/// Which model, and where it computes.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// A folder in the diffusers layout, a single file, or a hub id.
    pub model: Location,
    /// Replaces the folder's UNet.
    pub unet: Option<PathBuf>,
    /// All are worn at once.
    pub loras: Vec<LoraFile>,
    pub overrides: Overrides,
    pub device: Device,
    pub kind: Kind,
}

/// What is said of a model beside its files.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overrides {
    /// Text encoder layers to skip, as diffusers counts them.
    pub clip_skip: usize,
    /// None: as the model's scheduler_config.json says.
    pub prediction_type: Option<PredictionType>,
    pub zero_terminal_snr: Option<bool>,
}

impl Overrides {
    /// The options that say something of the noise process; empty: none does.
    fn noise_process(&self) -> String {
        let said = [
            self.prediction_type.map(|kind| format!("--prediction-type {}", kind.name())),
            self.zero_terminal_snr.map(|zero| format!("--zero-terminal-snr {zero}")),
        ];
        said.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// A LoRA file and the factor on what it adds.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraFile {
    pub path: PathBuf,
    pub scale: f64,
}

impl std::str::FromStr for LoraFile {
    type Err = String;

    /// `FILE[:scale]`. What follows the last colon is the scale if it is a number, else part of the name.
    fn from_str(text: &str) -> Result<Self, String> {
        let (path, scale) = match text.rsplit_once(':') {
            Some((path, scale)) if scale.parse::<f64>().is_ok() => (path, scale.parse().unwrap_or(1.0)),
            _ => (text, 1.0),
        };
        match path.is_empty() || !f64::is_finite(scale) {
            true => Err(format!("{text:?}: expected FILE or FILE:scale, for example style.safetensors:0.8")),
            false => Ok(Self { path: PathBuf::from(path), scale }),
        }
    }
}

impl ModelRequest {
    /// Opens the model, and fetches it where it is a hub id: everything wrong with it but its weights shows here.
    pub fn folder(&self, progress: &dyn Progress) -> Result<ModelFolder> {
        let mut folder = ModelFolder::find(&self.model, &mut |line| progress.line(line))?;
        let Overrides { prediction_type, zero_terminal_snr, .. } = self.overrides;
        let file = folder.scheduler().path.display().to_string();
        let overridden = folder.override_noise_process(prediction_type, zero_terminal_snr);
        match (overridden, self.overrides.noise_process()) {
            (Ok(()), _) => Ok(folder),
            (Err(e), said) if !said.is_empty() => Err(ConfigError(format!("{said}: {e}")).into()),
            (Err(e), _) => Err(anyhow::Error::new(e).context(file)),
        }
    }

    /// `{"unet/diffusion_pytorch_model.safetensors": sha256, ..}` of every weight file that is used but the LoRAs.
    pub fn weight_hashes(&self, folder: &ModelFolder, hashes: &mut HashMemory) -> Result<Map<String, Value>> {
        let mut files: Vec<(&str, PathBuf)> = folder.weight_files();
        if let Some(dir) = &self.unet {
            files.retain(|(component, _)| *component != "unet");
            files.extend(component_files(dir, "diffusion_pytorch_model", None)?.into_iter().map(|file| ("unet", file)));
        }
        let mut found = BTreeMap::new();
        for (component, file) in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            found.insert(format!("{component}/{name}"), json!(hashes.of_file(&file)?));
        }
        Ok(found.into_iter().collect())
    }

    /// `[{"file": .., "scale": .., "sha256": ..}, ..]` of the LoRAs.
    pub fn lora_hashes(&self, hashes: &mut HashMemory) -> Result<Vec<Value>> {
        let record = |lora: &LoraFile| {
            let sha256 = hashes.of_file(&Lora::file_in(&lora.path))?;
            Ok(json!({"file": lora.path.display().to_string(), "scale": lora.scale, "sha256": sha256}))
        };
        self.loras.iter().map(record).collect()
    }
}

/// A model in memory, ready to paint.
pub struct Model {
    pub folder: ModelFolder,
    pub denoiser: Denoiser,
    pub vae: AutoencoderKl,
    pub prompts: PromptMemory,
    /// The LoRAs of the request.
    pub adapters: Option<AdapterSet>,
    options: LoadOptions,
}

impl Model {
    /// Loads all weights of a request.
    pub fn load(request: &ModelRequest, progress: &dyn Progress) -> Result<Self> {
        Self::load_from(request.folder(progress)?, request)
    }

    /// The same where the folder is open already.
    pub fn load_from(folder: ModelFolder, request: &ModelRequest) -> Result<Self> {
        let options = LoadOptions { device: request.device, kind: request.kind };
        let mut denoiser = folder.load_denoiser(request.unet.as_deref(), &options)?;
        let lora = read_loras(&request.loras, &folder.lora_targets())?;
        let adapters = lora.attach(Network::Unet, &mut denoiser.unet)?;
        let vae = folder.load_vae(None, &options)?;
        let mut prompts =
            PromptMemory::new(folder.load_text(&options)?, request.overrides.clip_skip, folder.empty_side());
        prompts.wear(&lora)?;
        Ok(Self { folder, denoiser, vae, prompts, adapters, options })
    }

    /// A painter over this model's parts.
    pub fn painter(&self) -> Painter<'_> {
        Painter {
            denoiser: &self.denoiser,
            vae: &self.vae,
            scheduler: self.folder.scheduler(),
            conditioning: Box::new(|prompt| self.prompts.conditioning(prompt)),
            negative: Box::new(|prompt| self.prompts.negative(prompt)),
            device: self.options.device,
            kind: self.options.kind,
        }
    }
}

/// Reads the LoRAs of a side and joins them: all are worn at once.
pub fn read_loras(loras: &[LoraFile], targets: &LoraTargets) -> Result<Lora> {
    let read = |lora: &LoraFile| {
        let read = Lora::read(&lora.path, targets);
        let read = read.with_context(|| format!("cannot use the LoRA {}", lora.path.display()))?;
        Ok(read.scaled(lora.scale))
    };
    Ok(Lora::joined(loras.iter().map(read).collect::<Result<_>>()?)?)
}
