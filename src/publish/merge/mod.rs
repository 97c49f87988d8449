//! `diffpref merge` as a library call: weight algebra over models and LoRAs (methods.md 6 and 16).
//!
//! Every operation is one sum, `frame + sum_i weight_i (to_i - from_i)`, written as a model or as a LoRA. Sums are in
//! float64 and rounded once, when they are written.

mod inputs;
mod recipe;
mod result;

pub use inputs::Weighted;
pub use result::{Loss, Summary};

use super::Format;
use crate::progress::{Progress, Stop};
use crate::settings::ConfigError;
use anyhow::Result;
use pipelines::families::Layers;
use std::path::PathBuf;
use tch::Kind;

/// Conversion of a difference into a LoRA.
#[derive(Debug, Clone, Copy)]
pub struct AsLora {
    /// None: all ranks concatenated, if every term is a LoRA already.
    pub rank: Option<i64>,
    pub layers: Layers,
}

/// The sub-commands. A model is a folder in the diffusers layout, a single file, a hub id or a UNet folder. A
/// [`Weighted`] path or a side of `Npo` may be a LoRA too.
#[derive(Debug, Clone)]
pub enum Operation {
    /// `sum_i w_i model_i`, or the same sum of LoRAs alone. The weights add up to 1, and are equal by default.
    Soup { models: Vec<Weighted> },
    /// `onto + sum_i w_i (model_i - base)`; `onto` None is the base.
    TaskVector { base: PathBuf, onto: Option<PathBuf>, models: Vec<Weighted> },
    /// `base + alpha (positive - base) + beta (negative - base)`, as a model, or its offset as a LoRA.
    Npo { base: PathBuf, positive: PathBuf, negative: PathBuf, alpha: f64, beta: f64, lora: Option<AsLora> },
    /// `base + sum_i w_i lora_i`.
    Lora { base: PathBuf, loras: Vec<Weighted> },
    /// `sum_i w_i lora_i` as one LoRA; `base` None: the usual shape of the LoRA's family.
    Join { base: Option<PathBuf>, loras: Vec<Weighted>, rank: Option<i64> },
    /// `model - base` as a LoRA.
    Extract { base: PathBuf, model: PathBuf, lora: AsLora },
}

impl Operation {
    /// Name of the sub-command.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Soup { .. } => "soup",
            Self::TaskVector { .. } => "task-vector",
            Self::Npo { .. } => "npo",
            Self::Lora { .. } => "lora",
            Self::Join { .. } => "join",
            Self::Extract { .. } => "extract",
        }
    }
}

/// All options of `diffpref merge`.
#[derive(Debug, Clone)]
pub struct Request {
    pub operation: Operation,
    /// None: the format that fits the result and the name of `out`.
    pub format: Option<Format>,
    /// None: the stored type of the UNet; float32 for a LoRA.
    pub kind: Option<Kind>,
    /// Title in the header of a file; None: the name of `out`.
    pub title: Option<String>,
    pub out: PathBuf,
    /// Folder of remembered hashes of large files.
    pub cache_dir: PathBuf,
}

/// Merges the inputs of a request. The result appears once it is whole; existing files are never overwritten.
///
/// # Errors
/// [`ConfigError`] for wrong options (exit code 2); every error of models and LoRAs; [`crate::progress::Stopped`]
/// between two tensors after a signal.
pub fn run(request: &Request, stop: &Stop, progress: &dyn Progress) -> Result<Summary> {
    let out = request.out.display();
    if request.out.exists() {
        return Err(refused(format!("--out {out}: it exists already, and nothing is written over; name another")));
    }
    if let Operation::Npo { alpha, beta, .. } = &request.operation {
        for (name, value) in [("alpha", alpha), ("beta", beta)] {
            if !value.is_finite() {
                return Err(refused(format!("--{name} {value}: expected a finite number; NPO publishes 1")));
            }
        }
    }
    let inputs = inputs::Inputs::open(recipe::of(&request.operation)?, progress)?;
    let format = result::format(request, &inputs)?;
    match format.is_lora() {
        true => result::write_lora(request, &inputs, format, stop, progress),
        false => result::write_model(request, &inputs, format, stop, progress),
    }
}

fn refused(text: impl Into<String>) -> anyhow::Error {
    ConfigError(text.into()).into()
}
