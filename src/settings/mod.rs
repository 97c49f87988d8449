//! One run's configuration: TOML in, typed sections out.

mod changes;
mod choices;
mod combinations;
mod document;
mod resolve;
mod rollouts;
pub(crate) mod scorers;
mod source;
pub mod tables;
#[cfg(test)]
mod tests;

pub use changes::{Change, changes};
pub use document::{Document, load};
pub use resolve::{Facts, reload, resolve};
pub use source::Source;

use crate::data::batches::{Posterior, TimeIds};
use crate::data::cache::CacheDtype;
use crate::data::items::{Labels, Ties};
use crate::data::timesteps::TimestepLaw;
use crate::data::weights::{WeightSource, Weighting};
use crate::scorers::RewardConfig;
use pipelines::Dtype;
use pipelines::hub::Location;
use pipelines::models::Recompute;
use pipelines::schedulers::{PredictionType, Scheduler};
use serde::Deserialize;
use std::path::PathBuf;

pub use crate::keys::{ConfigError, Result};
use crate::objectives::MethodSettings;
pub use choices::*;

/// Known keys that this version refuses.
pub const NOT_BUILT_KEYS: &[(&str, &str)] = &[("reference", "path")];

/// A resolved configuration: what `resolved.toml` holds, typed.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    pub model: ModelConfig,
    pub data: DataConfig,
    /// Off for a method without items.
    #[serde(default)]
    pub validate: ValidateConfig,
    pub method: MethodSettings,
    /// Absent in runs of earlier versions, like [weights].
    #[serde(default)]
    pub timesteps: TimestepsConfig,
    #[serde(default)]
    pub reference: Option<ReferenceConfig>,
    #[serde(default)]
    pub safeguard: Option<SafeguardConfig>,
    #[serde(default)]
    pub weights: WeightsConfig,
    #[serde(default)]
    pub lora: Option<LoraConfig>,
    pub optim: OptimConfig,
    pub ema: EmaConfig,
    pub train: TrainConfig,
    pub sample: SampleConfig,
    /// Only for methods that sample while they train.
    #[serde(default)]
    pub rollout: Option<RolloutConfig>,
    #[serde(default)]
    pub reward: Option<RewardConfig>,
    pub log: LogConfig,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ModelConfig {
    pub path: PathBuf,
    #[serde(default)]
    pub revision: Option<String>,
    #[serde(default)]
    pub variant: Option<String>,
    pub unet: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    pub clip_skip: i64,
    pub dtype: Dtype,
    pub device: String,
    pub prediction_type: PredictionType,
    pub zero_terminal_snr: bool,
    /// Only for models with size inputs.
    #[serde(default)]
    pub time_ids: Option<TimeIds>,
}

impl ModelConfig {
    /// Location of the model.
    pub fn location(&self) -> Location {
        Location { path: self.path.clone(), revision: self.revision.clone(), variant: self.variant.clone() }
    }
}

/// Only `resolution`, `cache_dir`, `cache_dtype` and `workers` are present for a method without items.
#[derive(Debug, Clone, Deserialize)]
pub struct DataConfig {
    #[serde(default)]
    pub path: PathBuf,
    pub resolution: i64,
    #[serde(default)]
    pub crop: Crop,
    #[serde(default)]
    pub crops: i64,
    #[serde(default)]
    pub flip: f64,
    #[serde(default)]
    pub ties: Ties,
    #[serde(default)]
    pub labels: Labels,
    #[serde(default)]
    pub draws_per_pair: i64,
    #[serde(default)]
    pub posterior: Posterior,
    pub cache_dir: PathBuf,
    pub cache_dtype: CacheDtype,
    #[serde(default)]
    pub max_bad_fraction: f64,
    pub workers: usize,
}

/// Values of keys whose table the method does not read: all neutral.
mod unread {
    pub fn trajectories() -> usize {
        1
    }

    pub fn batch() -> usize {
        1
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct ValidateConfig {
    #[serde(default)]
    pub fraction: f64,
    pub path: Option<PathBuf>,
    pub every: u64,
    pub draws: i64,
    #[serde(default)]
    pub max_pairs: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub struct TimestepsConfig {
    pub law: LawName,
    /// Only for `law = "discounted"`.
    #[serde(default)]
    pub gamma: f64,
    #[serde(default)]
    pub n_bins: i64,
    /// Only for `law = "list"`, which has no `min` and `max`.
    #[serde(default)]
    pub values: Vec<i64>,
    #[serde(default)]
    pub min: i64,
    #[serde(default)]
    pub max: i64,
    pub weighting: TimestepWeighting,
}

impl Default for TimestepsConfig {
    fn default() -> Self {
        let (law, weighting) = (LawName::Uniform, TimestepWeighting::None);
        Self { law, gamma: 0.0, n_bins: 0, values: Vec::new(), min: 0, max: 999, weighting }
    }
}

impl TimestepsConfig {
    pub fn law(&self) -> TimestepLaw {
        let Self { gamma, n_bins, .. } = *self;
        let (min, max) = (self.min as f64, self.max as f64);
        match self.law {
            LawName::Discounted => TimestepLaw::Discounted { gamma, n_bins, min, max },
            LawName::List => TimestepLaw::List(self.values.iter().map(|t| *t as f64).collect()),
            LawName::Uniform => TimestepLaw::Uniform { min, max },
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct SafeguardConfig {
    pub name: SafeguardName,
    pub mu: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct WeightsConfig {
    pub source: WeightsFrom,
    /// Only for `source = "videodpo"`.
    #[serde(default)]
    pub b: f64,
    #[serde(default)]
    pub c: f64,
    pub as_published: bool,
}

impl Default for WeightsConfig {
    fn default() -> Self {
        Self { source: WeightsFrom::None, b: 0.0, c: 0.0, as_published: false }
    }
}

impl WeightsConfig {
    /// Loss weights that follow from the data; `None` without any.
    pub fn of_data(&self) -> Option<Weighting> {
        let source = match self.source {
            WeightsFrom::Column => WeightSource::Column,
            WeightsFrom::VideoDpo => WeightSource::VideoDpo { b: self.b, c: self.c },
            WeightsFrom::None => return None,
        };
        Some(Weighting { source, as_published: self.as_published })
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct ReferenceConfig {
    pub kind: ReferenceKind,
    /// Steps between copies, and their end; only for `kind = "updated"`.
    #[serde(default)]
    pub every: u64,
    #[serde(default)]
    pub divergence_limit: f64,
    #[serde(default)]
    pub divergence_ema: f64,
}

impl ReferenceConfig {
    /// The reference is renewed during the run.
    pub fn moves(&self) -> bool {
        self.kind == ReferenceKind::Updated
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct LoraConfig {
    pub rank: i64,
    pub alpha: f64,
    pub targets: Vec<String>,
    pub init: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct OptimConfig {
    pub lr: f64,
    pub lr_scale: LrScale,
    #[serde(flatten)]
    pub rule: RuleConfig,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
    pub schedule: Schedule,
    pub warmup_steps: u64,
}

/// `optim.name` and the keys of that optimizer.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum RuleConfig {
    Adamw { betas: (f64, f64), eps: f64 },
    Adafactor,
}

impl RuleConfig {
    /// Keys of [optim] that the rule called `name` does not read.
    pub fn unread(name: &str) -> &'static [&'static str] {
        if name == "adafactor" { &["betas", "eps"] } else { &[] }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct EmaConfig {
    pub decay: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct TrainConfig {
    pub out: PathBuf,
    pub steps: u64,
    pub micro_batch: u64,
    pub grad_accum: u64,
    pub seed: u64,
    pub threads: usize,
    pub checkpoint_every: u64,
    pub keep_last: usize,
    pub keep_every: Option<u64>,
    pub gradient_checkpointing: Recompute,
    pub on_spike: OnSpike,
    pub overwrite: bool,
}

impl TrainConfig {
    /// Pairs per optimizer step.
    pub fn pairs_per_step(&self) -> u64 {
        self.micro_batch * self.grad_accum
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct SampleConfig {
    pub every: u64,
    #[serde(default)]
    pub prompts: Vec<String>,
    pub seeds: Vec<i64>,
    pub steps: usize,
    pub guidance_scale: f64,
    #[serde(with = "scheduler")]
    pub scheduler: &'static Scheduler,
}

/// Sampling of a run's trajectories. A method that samples only its start (self_npo) reads `prompts` and
/// `prompts_per_iteration`.
#[derive(Debug, Clone, Deserialize)]
pub struct RolloutConfig {
    pub prompts: Prompts,
    pub prompts_per_iteration: usize,
    /// Trajectories per prompt in an iteration.
    #[serde(default = "unread::trajectories")]
    pub trajectories: usize,
    #[serde(default)]
    pub steps: i64,
    #[serde(default)]
    pub eta: f64,
    #[serde(default)]
    pub guidance_scale: f64,
    /// `None`: one pass over the kept units.
    #[serde(default)]
    pub updates_per_iteration: Option<u64>,
    #[serde(default)]
    pub buffer: Buffer,
    /// Trajectories per forward pass.
    #[serde(default = "unread::batch")]
    pub batch: usize,
}

/// Prompts in the configuration itself, or a file of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Prompts {
    List(Vec<String>),
    File(PathBuf),
}

#[derive(Debug, Clone, Deserialize)]
pub struct LogConfig {
    pub tensorboard: bool,
    pub every: u64,
}

/// A sampler by its name.
mod scheduler {
    use pipelines::schedulers::{Scheduler, scheduler_names};
    use serde::{Deserialize, Deserializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static Scheduler, D::Error> {
        let name = String::deserialize(deserializer)?;
        Scheduler::by_name(&name).ok_or_else(|| D::Error::custom(format!("{name}: expected {}", scheduler_names())))
    }
}
