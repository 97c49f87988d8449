//! Models under names, from options and from run folders.

use crate::keys::ConfigError;
use crate::painting::{LoraFile, ModelRequest, NegativeRequest, Overrides};
use crate::settings::Settings;
use anyhow::Result;
use pipelines::hub::Location;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// A model under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedModel {
    pub name: String,
    /// A folder in the diffusers layout, a single file, or a hub id.
    pub model: Location,
    /// Replaces the folder's UNet.
    pub unet: Option<PathBuf>,
    pub loras: Vec<LoraFile>,
    /// None: one network serves both sides of guidance.
    pub negative: Option<NegativeRequest>,
    pub overrides: Overrides,
}

impl std::str::FromStr for NamedModel {
    type Err = String;

    /// `NAME=PATH[+LORA[:scale]]...`
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?}: expected NAME=PATH or NAME=PATH+LORA, for example tuned=models/sd15+style.safetensors:0.8"
            )
        };
        let (name, rest) = text.split_once('=').ok_or_else(expected)?;
        if name.is_empty() {
            return Err(expected());
        }
        Self::parsed(name, rest)?.ok_or_else(expected)
    }
}

impl NamedModel {
    /// Reads `PATH[+LORA[:SCALE]]...`; `None` without a path.
    ///
    /// # Errors
    /// A scale that is no number.
    pub fn parsed(name: &str, text: &str) -> Result<Option<Self>, String> {
        let mut parts = text.split('+');
        let model = Location::of(Path::new(parts.next().unwrap_or_default()));
        if model.path.as_os_str().is_empty() {
            return Ok(None);
        }
        let loras = parts.map(str::parse).collect::<Result<Vec<LoraFile>, String>>()?;
        let (unet, negative, overrides) = (None, None, Overrides::default());
        Ok(Some(Self { name: name.into(), model, unet, loras, negative, overrides }))
    }

    /// For people: what it is loaded from.
    pub fn source(&self) -> String {
        let unet = self.unet.iter().map(|dir| format!(" with the UNet {}", dir.display()));
        let loras = self.loras.iter().map(worn);
        let negative = self.negative.iter().map(in_words);
        std::iter::once(self.model.path.display().to_string()).chain(unet).chain(loras).chain(negative).collect()
    }

    /// Request of this model for loading or painting.
    pub fn request(&self, device: Device, kind: Kind) -> ModelRequest {
        let (model, unet) = (self.model.clone(), self.unet.clone());
        let (loras, negative, overrides) = (self.loras.clone(), self.negative.clone(), self.overrides);
        ModelRequest { model, unet, vae: None, loras, negative, overrides, device, kind }
    }
}

fn worn(lora: &LoraFile) -> String {
    format!(" + {}:{}", lora.path.display(), lora.scale)
}

/// The negative side of a model, for people.
fn in_words(negative: &NegativeRequest) -> String {
    let unet = negative.unet.iter().map(|dir| format!(" the UNet {}", dir.display()));
    let merge = negative.merge.iter().map(|merge| format!(", merged {},{}", merge.alpha, merge.beta));
    let loras = negative.loras.iter().map(worn);
    std::iter::once(", guided against".to_string()).chain(unet).chain(loras).chain(merge).collect()
}

/// The model that a run started from ("before") and the one it ended with ("after"), and the run's configuration.
///
/// # Errors
/// When the folder holds no finished run.
pub fn models_of_run(run_dir: &Path) -> Result<(Vec<NamedModel>, Settings)> {
    let resolved = run_dir.join("resolved.toml");
    if !resolved.is_file() {
        let text = format!(
            "--run {}: there is no resolved.toml in it; give the folder of a run, for example runs/quickstart",
            run_dir.display()
        );
        return Err(ConfigError(text).into());
    }
    let config = Settings::read(&resolved)?;
    refuse_unsupported(&config, &resolved)?;
    let last = run_dir.join("final");
    let lora = last.join("pytorch_lora_weights.safetensors");
    let (model, unet) = (config.model.location(), config.model.unet.clone());
    let whole = |path: &PathBuf| LoraFile { path: path.clone(), scale: 1.0 };
    let init = config.lora.as_ref().and_then(|lora| lora.init.as_ref()).map(whole);
    // Both are what the run trained: a model that the configuration overrules, whatever its files say.
    let overrides = Overrides {
        clip_skip: config.model.clip_skip as usize,
        prediction_type: Some(config.model.prediction_type),
        zero_terminal_snr: Some(config.model.zero_terminal_snr),
    };
    let loras = init.into_iter().collect();
    let negative = None;
    let before =
        NamedModel { name: "before".into(), model: model.clone(), unet: unet.clone(), loras, negative, overrides };
    let after = if lora.is_file() {
        NamedModel { name: "after".into(), model, unet, loras: vec![whole(&lora)], negative: None, overrides }
    } else if last.join("model_index.json").is_file() {
        let model = Location::of(&last);
        NamedModel { name: "after".into(), model, unet: None, loras: Vec::new(), negative: None, overrides }
    } else {
        let text =
            format!("{} has no final/ yet: finish the run with `diffpref train CONFIG --resume`", run_dir.display());
        return Err(anyhow::anyhow!(text));
    };
    Ok((vec![before, after], config))
}

/// Refuses settings that pictures of both models would silently lack.
fn refuse_unsupported(config: &Settings, resolved: &Path) -> Result<(), ConfigError> {
    match config.model.vae {
        None => Ok(()),
        Some(_) => Err(ConfigError(format!(
            "{}: eval does not know model.vae yet; compare with diffpref generate",
            resolved.display()
        ))),
    }
}
