//! Output of a merge: a UNet folder, a model folder, a checkpoint, or a LoRA.

use super::inputs::Inputs;
use super::operation::{AsLora, Operation, Request, refused};
use crate::machine::clock::now_iso;
use crate::progress::{Progress, Stop};
use crate::publish::format::Format;
use crate::publish::lora_file::{LoraOutput, write_lora_file};
use anyhow::{Result, anyhow};
use pipelines::families::{Change, Export, Extracted, Labels, write_unet};
use pipelines::lora::{Network, Truncation};
use std::cell::Cell;
use tch::{Kind, Tensor};

/// Header key of the record of a merge.
pub const RECORD: &str = "diffpref.merge";

/// The written output.
#[derive(Debug)]
pub struct Summary {
    pub format: Format,
    /// Path of a written LoRA.
    pub loss: Option<Loss>,
}

/// The part of a difference that its LoRA does not hold.
#[derive(Debug)]
pub struct Loss {
    /// `unet.<module path>` and the relative error of the rank cut, per module.
    pub modules: Vec<(String, Truncation)>,
    /// Differing tensors without a place in the LoRA, and their share of the difference's Frobenius norm.
    pub left_out: Vec<String>,
    pub left_out_share: f64,
}

impl Loss {
    /// The module with the largest relative error.
    pub fn worst(&self) -> Option<(&str, f64)> {
        let errors = self.modules.iter().map(|(name, truncation)| (name.as_str(), truncation.relative()));
        errors.max_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// The mean relative error over modules.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.modules.iter().map(|(_, truncation)| truncation.relative()).sum();
        sum / self.modules.len().max(1) as f64
    }
}

/// The requested or default format, checked against the result.
pub fn format(request: &Request, inputs: &Inputs) -> Result<Format> {
    let safetensors = request.out.extension().is_some_and(|end| end == "safetensors");
    let lora = inputs.recipe().lora.is_some();
    let format = request.format.unwrap_or(match (lora, safetensors, inputs.folder()) {
        (true, ..) => Format::LoraPeft,
        (false, true, _) => Format::Checkpoint,
        (false, false, Some(_)) => Format::Diffusers,
        (false, false, None) => Format::Unet,
    });
    let (out, name) = (request.out.display(), format);
    let problem = match (lora, format.is_lora()) {
        (true, false) => format!("--format {name}: the result is a LoRA; use lora-peft or lora-kohya"),
        (false, true) => {
            format!("--format {name}: the result is a model; npo --as-lora, extract and join write LoRAs")
        }
        _ if format.is_file() && !safetensors => {
            format!("--out {out}: expected a file that ends in .safetensors for --format {name}")
        }
        _ if !format.is_file() && safetensors => format!("--out {out}: expected a folder for --format {name}"),
        _ if matches!(format, Format::Diffusers | Format::Checkpoint) && inputs.folder().is_none() => {
            format!(
                "--format {name}: the base is a UNet alone; give the whole model, or write --format unet into a folder"
            )
        }
        _ => return Ok(format),
    };
    Err(refused(problem))
}

/// Reports progress per tensor and stops between two of them.
struct Watched<'a> {
    stop: &'a Stop,
    progress: &'a dyn Progress,
    done: Cell<u64>,
}

impl<'a> Watched<'a> {
    fn begin(stop: &'a Stop, progress: &'a dyn Progress, total: usize) -> Self {
        progress.begin("merge", 0, total as u64);
        Self { stop, progress, done: Cell::new(0) }
    }

    fn one(&self, name: &str) -> pipelines::Result<()> {
        self.stop.check().map_err(|stopped| pipelines::Error::Invalid(stopped.to_string()))?;
        self.progress.advance(self.done.get(), name);
        self.done.set(self.done.get() + 1);
        Ok(())
    }

    /// Result of the work, with the signal's error in place of the error that stopped the work.
    fn end<T>(&self, result: pipelines::Result<T>) -> Result<T> {
        self.progress.end();
        if result.is_err() {
            self.stop.check()?;
        }
        Ok(result?)
    }
}

struct WatchedChange<'a> {
    change: &'a dyn Change,
    watched: &'a Watched<'a>,
}

impl Change for WatchedChange<'_> {
    fn changed(&self, network: Network, name: &str, weight: Tensor) -> pipelines::Result<Tensor> {
        self.watched.one(name)?;
        self.change.changed(network, name, weight)
    }
}

/// Writes the sum as a model.
pub fn write_model(
    request: &Request,
    inputs: &Inputs,
    format: Format,
    stop: &Stop,
    progress: &dyn Progress,
) -> Result<Summary> {
    let frame = inputs.frame().ok_or_else(|| refused("a model is written, and only LoRAs were named"))?;
    let combination = inputs.combination(frame)?;
    if let (Format::Unet, Some(network)) = (format, combination.lora_networks().find(|n| *n != Network::Unet)) {
        let name = network.name();
        return Err(refused(format!(
            "--format unet: a LoRA has a part for the text encoder {name}, which would get lost; leave the format away and \
             write the whole model"
        )));
    }
    let record = inputs.record(request.operation.name(), &request.cache_dir)?;
    if let Some(parent) = request.out.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let networks = if format == Format::Unet { vec![Network::Unet] } else { frame.networks().collect() };
    let total = networks.iter().map(|network| frame.shapes(*network).len()).sum();
    say_what_stays(inputs, &networks, progress);
    let watched = Watched::begin(stop, progress, total);
    let change = WatchedChange { change: &combination, watched: &watched };
    let written = match (format, inputs.folder()) {
        (Format::Diffusers, Some(folder)) => Export::open(folder, None, None, &change, request.kind)
            .and_then(|export| export.with_note(RECORD, &record).write_folder(&request.out, &mut |_| {})),
        (Format::Checkpoint, Some(folder)) => {
            let labels = Labels { title: title(request), date: now_iso() };
            Export::open(folder, None, None, &change, request.kind)
                .and_then(|export| export.with_note(RECORD, &record).write_checkpoint(&request.out, &labels))
        }
        (Format::Unet | Format::Diffusers | Format::Checkpoint | Format::LoraPeft | Format::LoraKohya, _) => {
            write_unet(frame, &change, request.kind, &[(RECORD, &record)], &request.out)
        }
    };
    watched.end(written)?;
    Ok(Summary { format, loss: None })
}

/// Reports unchanged text encoders if a summand is a UNet alone.
fn say_what_stays(inputs: &Inputs, written: &[Network], progress: &dyn Progress) {
    for network in written.iter().filter(|network| **network != Network::Unet) {
        let without = inputs.added().filter(|weights| !weights.has(*network)).count();
        if without > 0 {
            let name = network.name();
            progress
                .line(&format!("{name}: {without} of the models are a UNet alone and leave it as it is in the base"));
        }
    }
}

/// Writes the difference as a LoRA.
pub fn write_lora(
    request: &Request,
    inputs: &Inputs,
    format: Format,
    stop: &Stop,
    progress: &dyn Progress,
) -> Result<Summary> {
    let (targets, family) = inputs.targets()?;
    let Some(how) = inputs.recipe().lora else { return Err(refused("the result is a model, not a LoRA")) };
    if format == Format::LoraKohya && family.is_none() {
        return Err(refused(
            "--format lora-kohya: its header names the family, which a UNet alone does not say; give the \
                            whole model as --base",
        ));
    }
    let whole = inputs.added().next().is_some();
    if whole && how.rank.is_none() {
        return Err(refused(
            "--rank is missing: a difference of whole weights has no rank of its own; for example --rank 32",
        ));
    }
    let extracted = extract(inputs, how, stop, progress)?;
    let Extracted { reduced, left_out, left_out_share } = extracted;
    if reduced.lora.is_empty() {
        return Err(match &request.operation {
            Operation::Extract { base, model, .. } => {
                let (base, model) = (base.display(), model.display());
                anyhow!(
                    "{model}: no layer differs from {base} in a way that a LoRA can hold; name the model that was trained"
                )
            }
            Operation::Soup { .. }
            | Operation::TaskVector { .. }
            | Operation::Npo { .. }
            | Operation::Lora { .. }
            | Operation::Join { .. } => {
                anyhow!("nothing is left to write: the parts have weight 0 or cancel each other; change the weights")
            }
        });
    }
    let record = inputs.record(request.operation.name(), &request.cache_dir)?;
    write_lora_file(
        &reduced.lora,
        &LoraOutput {
            out: &request.out,
            kind: request.kind.unwrap_or(Kind::Float),
            kohya: family.filter(|_| format == Format::LoraKohya).map(|family| (&targets, family)),
            title: &title(request),
            notes: &[(RECORD, &record)],
        },
    )?;
    Ok(Summary { format, loss: Some(Loss { modules: reduced.modules, left_out, left_out_share }) })
}

fn extract(inputs: &Inputs, how: AsLora, stop: &Stop, progress: &dyn Progress) -> Result<Extracted> {
    let Some(frame) = inputs.frame() else {
        let lora = inputs.lora(&inputs.targets()?.0)?;
        let modules = lora.networks().map(|(_, weights)| weights.modules.len()).sum();
        let watched = Watched::begin(stop, progress, modules);
        let reduced = watched.end(lora.reduced(how.rank, &mut |name| watched.one(name)))?;
        return Ok(Extracted { reduced, left_out: Vec::new(), left_out_share: 0.0 });
    };
    let combination = inputs.combination(frame)?;
    let watched = Watched::begin(stop, progress, combination.steps());
    watched.end(combination.to_lora(how.rank, how.layers, &mut |name| watched.one(name)))
}

fn title(request: &Request) -> String {
    let name = || request.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    request.title.clone().unwrap_or_else(name)
}
