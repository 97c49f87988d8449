//! `diffpref export` as a library call: a model or a LoRA written in another format.

use super::format::Format;
use super::lora_file::{LoraOutput, write_lora_file};
use crate::keys::ConfigError;
use crate::machine::clock::now_iso;
use crate::painting::{LoraFile, read_loras};
use crate::progress::Progress;
use anyhow::Result;
use pipelines::families::{Export, Family, Labels, ModelFolder, standard_of_lora};
use pipelines::hub::Location;
use pipelines::lora::LoraTargets;
use pipelines::schedulers::PredictionType;
use std::path::{Path, PathBuf};
use tch::Kind;

/// All options of `diffpref export`.
#[derive(Debug, Clone)]
pub struct Request {
    /// None: only a LoRA of a family's usual shape can be written.
    pub model: Option<Location>,
    pub unet: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    /// Merged into a model, or joined to one LoRA for a LoRA format.
    pub loras: Vec<LoraFile>,
    pub format: Format,
    /// None: the stored type of the UNet; float32 for a LoRA.
    pub kind: Option<Kind>,
    /// Overrides of the model's noise process.
    pub prediction_type: Option<PredictionType>,
    pub zero_terminal_snr: Option<bool>,
    /// None: the name of the output.
    pub title: Option<String>,
    pub out: PathBuf,
}

/// Writes the output of a request. Existing files are never overwritten.
///
/// # Errors
/// [`ConfigError`] for wrong options (exit code 2); every error of model or LoRA.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<()> {
    check(request)?;
    let folder = match &request.model {
        Some(location) => {
            let mut folder = ModelFolder::find(location, &mut |line| progress.line(line))?;
            folder.override_noise_process(request.prediction_type, request.zero_terminal_snr)?;
            Some(folder)
        }
        None => None,
    };
    if request.format.is_lora() {
        return write_lora(request, folder.as_ref());
    }
    let Some(folder) = folder else { return Err(refused("--model is missing: it names what is written").into()) };
    let lora = read_loras(&request.loras, &folder.lora_targets())?;
    let export = Export::open(&folder, request.unet.as_deref(), request.vae.as_deref(), &lora, request.kind)?;
    match request.format {
        Format::Diffusers => export.write_folder(&request.out, &mut |file| {
            progress.line(&format!("writing {}", file.display()));
        })?,
        Format::Checkpoint => {
            progress.line(&format!("writing {}", request.out.display()));
            export.write_checkpoint(&request.out, &Labels { title: title(request), date: now_iso() })?;
        }
        // Refused by `check`, and written above.
        Format::Unet | Format::LoraPeft | Format::LoraKohya => {}
    }
    Ok(())
}

fn refused(text: impl Into<String>) -> ConfigError {
    ConfigError(text.into())
}

fn check(request: &Request) -> Result<(), ConfigError> {
    let out = request.out.display();
    if request.out.exists() {
        return Err(refused(format!("--out {out}: it exists already, and nothing is written over; name another")));
    }
    let safetensors = request.out.extension().is_some_and(|end| end == "safetensors");
    match request.format {
        Format::Unet => return Err(refused("--format unet: an export has whole models or LoRAs; use diffusers")),
        Format::Diffusers if safetensors => {
            return Err(refused(format!("--out {out}: expected a folder for --format diffusers")));
        }
        Format::Checkpoint | Format::LoraPeft | Format::LoraKohya if !safetensors => {
            return Err(refused(format!("--out {out}: expected a file that ends in .safetensors")));
        }
        Format::Diffusers | Format::Checkpoint | Format::LoraPeft | Format::LoraKohya => {}
    }
    if !request.format.is_lora() {
        return Ok(());
    }
    if request.loras.is_empty() {
        return Err(refused("--lora is missing: it names the LoRA to write"));
    }
    match request.unet.is_some() || request.vae.is_some() {
        true => Err(refused("--unet and --vae are for models; a LoRA is written by itself")),
        false => Ok(()),
    }
}

fn write_lora(request: &Request, folder: Option<&ModelFolder>) -> Result<()> {
    let (targets, family): (LoraTargets, Family) = match (folder, request.loras.first()) {
        (Some(folder), _) => (folder.lora_targets(), folder.family()),
        (None, Some(lora)) => standard_of_lora(&lora.path, request.prediction_type)?,
        (None, None) => return Err(refused("--lora is missing: it names the LoRA to write").into()),
    };
    let lora = read_loras(&request.loras, &targets)?;
    let kind = request.kind.unwrap_or(Kind::Float);
    let kohya = (request.format == Format::LoraKohya).then_some((&targets, family));
    let title = title(request);
    write_lora_file(&lora, &LoraOutput { out: &request.out, kind, kohya, title: &title, notes: &[] })
}

fn title(request: &Request) -> String {
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    request.title.clone().unwrap_or_else(|| name(&request.out))
}
