//! A run's configuration: what `resolved.toml` holds, typed. No "auto" is left, and no table that the method does not read.

use super::tables::TABLES;
use super::tables::data::DataConfig;
use super::tables::ema::EmaConfig;
use super::tables::log::LogConfig;
use super::tables::lora::LoraConfig;
use super::tables::model::ModelConfig;
use super::tables::optim::OptimConfig;
use super::tables::reference::{ReferenceConfig, ReferenceKind, no_ledger};
use super::tables::rollout::RolloutConfig;
use super::tables::safeguard::SafeguardConfig;
use super::tables::sample::SampleConfig;
use super::tables::timesteps::TimestepsConfig;
use super::tables::train::TrainConfig;
use super::tables::validate::ValidateConfig;
use super::tables::weights::WeightsConfig;
use crate::data::timesteps::TimestepLaw;
use crate::data::weights::Weighting;
use crate::keys::{ConfigError, Result};
use crate::objectives::MethodSettings;
use crate::scorers::RewardConfig;
use pipelines::LevelRange;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// A run's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    pub model: ModelConfig,
    pub data: DataConfig,
    pub validate: Option<ValidateConfig>,
    pub method: MethodSettings,
    /// Runs of the first versions have neither this table nor [weights]: their timesteps are uniform.
    pub timesteps: Option<TimestepsConfig>,
    pub reference: Option<ReferenceConfig>,
    pub safeguard: Option<SafeguardConfig>,
    pub weights: Option<WeightsConfig>,
    /// `None`: a full fine-tune.
    pub lora: Option<LoraConfig>,
    pub optim: OptimConfig,
    pub ema: EmaConfig,
    pub train: TrainConfig,
    pub sample: SampleConfig,
    pub rollout: Option<RolloutConfig>,
    pub reward: Option<RewardConfig>,
    pub log: LogConfig,
}

impl Settings {
    /// Reads a `resolved.toml`.
    ///
    /// # Errors
    /// A file that cannot be read or is not one.
    pub fn read(path: &Path) -> Result<Self> {
        let refuse = |problem: String| ConfigError(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| refuse(format!("cannot read it: {e}")))?;
        let table = text.parse::<Table>().map_err(|e| refuse(format!("not TOML: {e}")))?;
        table.try_into().map_err(|e: toml::de::Error| refuse(e.to_string().trim_end().into()))
    }

    /// Tables and keys in the order of their declaration: equal runs write equal files.
    ///
    /// # Errors
    /// A value that TOML cannot hold.
    pub fn table(&self) -> std::result::Result<Table, toml::ser::Error> {
        let mut table = Table::try_from(self)?;
        for declared in TABLES {
            let Some(Value::Table(section)) = table.get_mut(declared.name) else { continue };
            let mut ordered = Table::new();
            for key in declared.keys() {
                ordered.extend(section.remove(key.name).map(|value| (key.name.to_string(), value)));
            }
            *section = ordered;
        }
        Ok(table)
    }

    /// Held-out prompts or items are measured every so many steps; 0: never.
    pub fn validates_every(&self) -> u64 {
        self.validate.as_ref().map_or(0, |validate| validate.every)
    }

    /// Why the run cannot use stored errors of its reference; `None` if it can.
    pub fn no_ledger(&self) -> Option<&'static str> {
        let kind = self.reference.as_ref().map_or(ReferenceKind::Frozen, |reference| reference.kind);
        no_ledger(&self.method.needs, kind)
    }

    /// Whether errors of the reference are stored and read.
    pub fn stores_errors(&self) -> bool {
        self.no_ledger().is_none() && self.reference.as_ref().is_some_and(ReferenceConfig::stores_errors)
    }

    /// Weights of losses that follow from the data.
    pub fn weighting(&self) -> Option<Weighting> {
        self.weights.as_ref().and_then(WeightsConfig::of_data)
    }

    /// Law of the noise level of items; uniform over the process's `range` where nothing is said.
    pub fn law(&self, range: LevelRange) -> TimestepLaw {
        self.timesteps.as_ref().map_or_else(|| TimestepLaw::all(range), |timesteps| timesteps.law.law())
    }
}
