//! A configuration as written: every key checked for itself, "auto" and what follows from model and data still open.

use super::source::Source;
use super::tables::validate::{HeldOut, Often};
use super::tables::{data, ema, log, lora, model, optim, reference, rollout, safeguard, sample, timesteps, train};
use super::tables::{validate, weights};
use super::written::typed as read;
use crate::objectives::MethodSettings;
use crate::scorers::RewardConfig;
use serde::de::DeserializeOwned;
use toml::Table;

/// A configuration as written. Tables that the method does not read are `None`.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub file: String,
    /// Decisions while reading, for the user.
    pub notes: Vec<String>,
    pub source: Source,
    pub model: model::Parsed,
    pub items: Option<data::Items>,
    pub pictures: data::Pictures,
    pub validate: Option<Validate>,
    pub method: MethodSettings,
    pub timesteps: Option<timesteps::Parsed>,
    pub reference: Option<reference::Parsed>,
    pub safeguard: Option<safeguard::Parsed>,
    pub weights: Option<weights::Parsed>,
    pub lora: lora::Parsed,
    pub optim: optim::Parsed,
    pub ema: ema::EmaConfig,
    pub train: train::Parsed,
    pub sample: sample::Parsed,
    pub starts: Option<rollout::Starts>,
    pub rollout: Option<rollout::Parsed>,
    pub reward: Option<RewardConfig>,
    pub log: log::LogConfig,
}

/// [validate]
#[derive(Debug, Clone)]
pub struct Validate {
    pub held_out: HeldOut,
    pub often: Often,
}

impl Parsed {
    /// `checked`: every table that a method with this source reads, with static defaults.
    ///
    /// # Errors
    /// A key whose type is not that of its declaration; tests hold all keys to it.
    pub(super) fn of(file: &str, checked: &Table, method: MethodSettings, source: Source) -> Result<Self, String> {
        Ok(Self {
            file: file.into(),
            notes: Vec::new(),
            source,
            model: read(checked, "model")?,
            items: source.has_items().then(|| read(checked, "data")).transpose()?,
            pictures: read(checked, "data")?,
            validate: validate(checked, source)?,
            method,
            timesteps: given(checked, "timesteps")?,
            reference: given(checked, "reference")?,
            safeguard: given(checked, "safeguard")?,
            weights: given(checked, "weights")?,
            lora: read(checked, "lora")?,
            optim: read(checked, "optim")?,
            ema: read(checked, "ema")?,
            train: read(checked, "train")?,
            sample: read(checked, "sample")?,
            starts: given(checked, "rollout")?,
            rollout: (source == Source::Rollouts).then(|| read(checked, "rollout")).transpose()?,
            reward: given(checked, "reward")?,
            log: read(checked, "log")?,
        })
    }
}

fn validate(checked: &Table, source: Source) -> Result<Option<Validate>, String> {
    let held_out = match source {
        Source::Items => Some(HeldOut::Items(read(checked, "validate")?)),
        Source::Rollouts => {
            let validate::HeldOutPrompts { prompts } = read(checked, "validate")?;
            prompts.map(|prompts| HeldOut::Prompts { prompts })
        }
        Source::TruncatedItems | Source::TruncatedNoise => None,
    };
    held_out.map(|held_out| Ok(Validate { held_out, often: read(checked, "validate")? })).transpose()
}

/// A table as a struct; `None` where it is not read.
fn given<T: DeserializeOwned>(checked: &Table, name: &str) -> Result<Option<T>, String> {
    checked.contains_key(name).then(|| read(checked, name)).transpose()
}
