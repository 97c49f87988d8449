//! `diffpref export` as a library call: a model or a LoRA written in another format.

use crate::generate::{LoraFile, read_loras};
use crate::progress::Progress;
use crate::settings::ConfigError;
use anyhow::Result;
use pipelines::families::{Export, Family, Labels, ModelFolder, standard_of_lora};
use pipelines::hub::Location;
use pipelines::lora::{Lora, LoraTargets, Network};
use pipelines::schedulers::PredictionType;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tch::Kind;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A model folder in the diffusers layout.
    Diffusers,
    /// A single-file checkpoint for A1111, ComfyUI and kohya.
    Checkpoint,
    /// A LoRA in PEFT naming, for diffusers.
    LoraPeft,
    /// A LoRA in kohya naming, for ComfyUI and A1111.
    LoraKohya,
}

impl Format {
    /// The names that `--format` takes.
    pub const NAMES: [(Self, &'static str); 4] = [
        (Self::Diffusers, "diffusers"),
        (Self::Checkpoint, "checkpoint"),
        (Self::LoraPeft, "lora-peft"),
        (Self::LoraKohya, "lora-kohya"),
    ];

    fn is_lora(self) -> bool {
        matches!(self, Self::LoraPeft | Self::LoraKohya)
    }
}

/// Everything `diffpref export` can be asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// None: only a LoRA of a family's usual shape is written.
    pub model: Option<Location>,
    pub unet: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    /// Merged into a model; written as one where a LoRA is asked for.
    pub loras: Vec<LoraFile>,
    pub format: Format,
    /// None: the kind in which the UNet is stored; float32 for a LoRA.
    pub kind: Option<Kind>,
    /// In place of what the model says of itself.
    pub prediction_type: Option<PredictionType>,
    pub zero_terminal_snr: Option<bool>,
    /// None: the name of what is written.
    pub title: Option<String>,
    pub out: PathBuf,
}

/// Writes what a request asks for. Nothing that is there is written over.
///
/// # Errors
/// [`ConfigError`] for what the options say (exit code 2); everything that is wrong with model or LoRA.
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
    let Some(folder) = folder else { return Err(refused("--model is missing: it says what is written").into()) };
    let lora = read_loras(&request.loras, &folder.lora_targets())?;
    let export = Export::open(&folder, request.unet.as_deref(), request.vae.as_deref(), &lora, request.kind)?;
    match request.format {
        Format::Diffusers => export.write_folder(&request.out, &mut |file| {
            progress.line(&format!("writing {}", file.display()));
        })?,
        _ => {
            progress.line(&format!("writing {}", request.out.display()));
            export.write_checkpoint(&request.out, &Labels { title: title(request), date: iso(SystemTime::now()) })?;
        }
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
        Format::Diffusers if safetensors => {
            return Err(refused(format!("--out {out}: expected a folder for --format diffusers")));
        }
        Format::Diffusers => {}
        _ if !safetensors => return Err(refused(format!("--out {out}: expected a file that ends in .safetensors"))),
        _ => {}
    }
    if !request.format.is_lora() {
        return Ok(());
    }
    if request.loras.is_empty() {
        return Err(refused("--lora is missing: it says which LoRA is written"));
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
        (None, None) => return Err(refused("--lora is missing: it says which LoRA is written").into()),
    };
    let lora = read_loras(&request.loras, &targets)?;
    let kind = request.kind.unwrap_or(Kind::Float);
    let kohya = (request.format == Format::LoraKohya).then_some((&targets, family));
    let title = title(request);
    write_lora_file(&lora, &LoraOutput { out: &request.out, kind, kohya, title: &title, notes: &[] })
}

/// How and where a LoRA is written.
pub(crate) struct LoraOutput<'a> {
    pub out: &'a Path,
    pub kind: Kind,
    /// None: PEFT naming.
    pub kohya: Option<(&'a LoraTargets, Family)>,
    pub title: &'a str,
    /// Further texts for the header.
    pub notes: &'a [(&'a str, &'a str)],
}

/// Writes a LoRA file.
///
/// # Errors
/// Values that the kind does not hold.
pub(crate) fn write_lora_file(lora: &Lora, output: &LoraOutput) -> Result<()> {
    check_range(lora, output.kind)?;
    if let Some(parent) = output.out.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let Some((targets, family)) = output.kohya else {
        return Ok(lora.write_peft_with(output.out, output.kind, output.notes)?);
    };
    let date = iso(SystemTime::now());
    let mut header = family.lora_header().to_vec();
    header.extend([("ss_output_name", output.title), ("modelspec.title", output.title)]);
    header.extend([("modelspec.sai_model_spec", "1.0.1"), ("modelspec.date", date.as_str())]);
    header.extend_from_slice(output.notes);
    Ok(lora.write_kohya(output.out, output.kind, targets, &header)?)
}

/// Refuses matrices whose values the kind does not hold.
fn check_range(lora: &Lora, kind: Kind) -> Result<()> {
    for (network, weights) in lora.networks() {
        for (path, module) in &weights.modules {
            let finite = [&module.a, &module.b].iter().all(|t| t.to_kind(kind).isfinite().all().int64_value(&[]) != 0);
            if !finite {
                let name = Network::name(network);
                anyhow::bail!(
                    "{name}.{path}: a value is not finite as {kind:?}; write bfloat16 or float32, or the LoRA is damaged"
                );
            }
        }
    }
    Ok(())
}

fn title(request: &Request) -> String {
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    request.title.clone().unwrap_or_else(|| name(&request.out))
}

/// A moment as `2026-01-31T12:00:00Z`. Days to dates: Howard Hinnant's `civil_from_days`.
pub(crate) fn iso(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86400, seconds % 86400);
    let shifted = days + 719_468; // days since 0000-03-01, the start of the calendar's 400-year eras
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_are_written_as_python_writes_them() {
        // datetime.fromtimestamp(n, timezone.utc).isoformat()
        for (n, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(iso(SystemTime::UNIX_EPOCH + Duration::from_secs(n)), text);
        }
    }
}
