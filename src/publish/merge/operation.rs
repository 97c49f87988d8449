//! The operations of `diffpref merge` and their options.

use crate::keys::ConfigError;
use crate::machine::files::path_and_number;
use crate::publish::format::Format;
use anyhow::Result;
use pipelines::families::Layers;
use std::path::PathBuf;
use tch::Kind;

/// A path and its weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighted {
    pub path: PathBuf,
    pub weight: Option<f64>,
}

impl std::str::FromStr for Weighted {
    type Err = String;

    /// `PATH[:weight]`
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = path_and_number(text).map(|(path, weight)| Self { path, weight });
        let expected = "expected PATH or PATH:weight with a finite weight, for example models/a:0.5";
        parts.ok_or_else(|| format!("{text:?}: {expected}"))
    }
}

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

/// Options of `diffpref merge`.
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

/// An error of the options (exit code 2).
pub fn refused(text: impl Into<String>) -> anyhow::Error {
    ConfigError(text.into()).into()
}
