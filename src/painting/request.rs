//! A model by its options: `--model`, `--unet`, `--vae`, `--lora` and those of the negative side.

use crate::keys::ConfigError;
use crate::machine::files::path_and_number;
use crate::progress::Progress;
use anyhow::Result;
use pipelines::families::ModelFolder;
use pipelines::hub::Location;
use pipelines::schedulers::PredictionType;
use pipelines::weights::LoadOptions;
use std::path::PathBuf;
use tch::{Device, Kind};

/// Model files and device.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// A folder in the diffusers layout, a single file, or a hub id.
    pub model: Location,
    /// Replaces the folder's UNet.
    pub unet: Option<PathBuf>,
    /// Replaces the folder's VAE: a component folder, or a file of the original layout.
    pub vae: Option<PathBuf>,
    /// All are applied at once.
    pub loras: Vec<LoraFile>,
    /// None: one network serves both sides of guidance.
    pub negative: Option<NegativeRequest>,
    pub overrides: Overrides,
    pub device: Device,
    pub kind: Kind,
}

/// Settings of a model besides its files.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overrides {
    /// Text encoder layers to skip, counted as in diffusers.
    pub clip_skip: usize,
    /// None: the value in the model's scheduler_config.json.
    pub prediction_type: Option<PredictionType>,
    pub zero_terminal_snr: Option<bool>,
}

impl Overrides {
    /// The options that override the noise process; may be empty.
    fn noise_process(&self) -> String {
        let said = [
            self.prediction_type.map(|kind| format!("--prediction-type {}", kind.name())),
            self.zero_terminal_snr.map(|zero| format!("--zero-terminal-snr {zero}")),
        ];
        said.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// A LoRA file and the factor on its effect.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraFile {
    pub path: PathBuf,
    pub scale: f64,
}

impl std::str::FromStr for LoraFile {
    type Err = String;

    /// `FILE[:scale]`
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = path_and_number(text).map(|(path, scale)| Self { path, scale: scale.unwrap_or(1.0) });
        parts.ok_or_else(|| format!("{text:?}: expected FILE or FILE:scale, for example style.safetensors:0.8"))
    }
}

impl ModelRequest {
    /// Device and kind of every network of the request.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions { device: self.device, kind: self.kind }
    }

    /// Opens the model, and downloads a hub id. Reports every error except those in weights.
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
}

/// Files of the negative side, in addition to a prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NegativeRequest {
    /// None: the model's own UNet.
    pub unet: Option<PathBuf>,
    /// All are applied at once.
    pub loras: Vec<LoraFile>,
    /// None: the negative side unchanged, alpha 0 and beta 1.
    pub merge: Option<Merge>,
}

/// Weights of the positive (`alpha`) and of the negative offset (`beta`) in the negative model; published by NPO: 1,
/// 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merge {
    pub alpha: f64,
    pub beta: f64,
}

impl std::str::FromStr for Merge {
    type Err = String;

    /// `alpha,beta`
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
        match text.split_once(',').map(|(alpha, beta)| (number(alpha), number(beta))) {
            Some((Some(alpha), Some(beta))) => Ok(Self { alpha, beta }),
            _ => Err(format!("{text:?}: expected two numbers, alpha,beta, for example 1,1")),
        }
    }
}

impl NegativeRequest {
    /// The negative side of some options; None without any.
    ///
    /// # Errors
    /// A merge without anything to merge.
    pub fn of(unet: Option<PathBuf>, loras: Vec<LoraFile>, merge: Option<Merge>) -> Result<Option<Self>, ConfigError> {
        match (unet.is_some() || !loras.is_empty(), merge) {
            (true, _) => Ok(Some(Self { unet, loras, merge })),
            (false, None) => Ok(None),
            (false, Some(Merge { alpha, beta })) => Err(ConfigError(format!(
                "--negative-merge {alpha},{beta}: there is no negative side to merge; give --negative-unet or --negative-lora too"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_is_two_numbers() {
        assert_eq!("1, 0.5".parse(), Ok(Merge { alpha: 1.0, beta: 0.5 }));
        for text in ["1", "1,", "a,b", "1,inf", "1,1,1"] {
            assert!(text.parse::<Merge>().unwrap_err().contains("expected two numbers, alpha,beta"), "{text}");
        }
    }
}
