//! scheduler_config.json, read as diffusers reads it.

use crate::weights::write_file;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const FILE: &str = "scheduler_config.json";

/// Target of the network (methods.md 0.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// the noise
    Epsilon,
    /// v = sqrt(abar) noise - sqrt(1 - abar) x_0
    VPrediction,
}

impl PredictionType {
    pub const ALL: [Self; 2] = [Self::Epsilon, Self::VPrediction];
    /// In the order of [`ALL`](Self::ALL).
    pub const NAMES: [&str; 2] = [Self::ALL[0].name(), Self::ALL[1].name()];

    /// Name in scheduler_config.json, in configurations and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon",
            Self::VPrediction => "v_prediction",
        }
    }

    /// The prediction type with that [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Placement of n sampling steps on the training timesteps (methods.md 18; table 2 of arXiv 2305.08891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestepSpacing {
    Leading,
    Linspace,
    Trailing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BetaSchedule {
    /// beta interpolated
    Linear,
    /// sqrt(beta) interpolated, in every Stable Diffusion
    ScaledLinear,
}

/// A scheduler_config.json.
///
/// Fields with a class-dependent default are `None` if absent from the file: diffusers' `from_config` passes on only
/// keys of the file. Keys of a single class are read by name: [`Self::flag`], [`Self::number`], [`Self::text`].
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// `_class_name`: the model's own sampler.
    pub class_name: String,
    /// T, the number of training timesteps.
    pub num_train_timesteps: i64,
    pub beta_start: f64,
    pub beta_end: f64,
    pub beta_schedule: BetaSchedule,
    /// Replaces the three fields above.
    pub trained_betas: Option<Vec<f64>>,
    pub prediction_type: PredictionType,
    pub rescale_betas_zero_snr: bool,
    pub timestep_spacing: Option<TimestepSpacing>,
    pub steps_offset: Option<i64>,
    pub set_alpha_to_one: Option<bool>,
    pub clip_sample: Option<bool>,
    pub clip_sample_range: f64,
    /// Dynamic thresholding: refused by the samplers, irrelevant to training.
    pub thresholding: bool,
    /// The file, for messages.
    pub path: PathBuf,
    /// Every key of the file, for writing it again.
    values: Map<String, Value>,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "_class_name")]
    class_name: Option<String>,
    num_train_timesteps: Option<i64>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<String>,
    trained_betas: Option<Vec<f64>>,
    prediction_type: Option<String>,
    rescale_betas_zero_snr: Option<bool>,
    timestep_spacing: Option<String>,
    steps_offset: Option<i64>,
    set_alpha_to_one: Option<bool>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f64>,
    thresholding: Option<bool>,
}

impl SchedulerConfig {
    /// Reads `dir`/scheduler_config.json. A value that is not implemented is an error that names it.
    ///
    /// As in diffusers' pipelines for Stable Diffusion 1 and 2, a stated steps_offset becomes 1 and a stated
    /// clip_sample false; [`Self::uncorrected`] reverts that.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::missing(dir, FILE, "it states the noise schedule of the model"));
            }
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        Self::parse(&path, &text)
    }

    /// Parses the text of a scheduler_config.json; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let json = |source| Error::Json { path: path.to_path_buf(), source };
        // Python writes an unset lambda_min_clipped as -Infinity, which is not valid JSON.
        let text = text.replace(": -Infinity", ": null");
        let value: Value = serde_json::from_str(&text).map_err(json)?;
        let values = value.as_object().cloned().unwrap_or_default();
        let file: File = serde_json::from_value(value).map_err(json)?;
        Self::checked(file, values, path)
    }

    /// The unchanged values of the file, for pipelines that correct nothing (SDXL): absent keys have the defaults
    /// that diffusers' classes share.
    pub fn uncorrected(mut self) -> Self {
        self.steps_offset = Some(self.values.get("steps_offset").and_then(Value::as_i64).unwrap_or(0));
        self.clip_sample = Some(self.values.get("clip_sample").and_then(Value::as_bool).unwrap_or(true));
        self
    }

    /// The noise process with another prediction type or another end; None keeps the file's.
    ///
    /// # Errors
    /// Epsilon prediction with zero terminal SNR: at abar = 0 the noise has no information about the picture.
    pub fn overridden(&self, prediction_type: Option<PredictionType>, zero_terminal_snr: Option<bool>) -> Result<Self> {
        let mut config = self.clone();
        if let Some(prediction_type) = prediction_type {
            config.prediction_type = prediction_type;
            config.values.insert("prediction_type".into(), json!(prediction_type.name()));
        }
        if let Some(zero) = zero_terminal_snr {
            config.rescale_betas_zero_snr = zero;
            config.values.insert("rescale_betas_zero_snr".into(), json!(zero));
        }
        config.check_terminal_snr()?;
        Ok(config)
    }

    /// Refuses epsilon prediction with zero terminal SNR.
    pub fn check_terminal_snr(&self) -> Result<()> {
        if self.rescale_betas_zero_snr && self.prediction_type == PredictionType::Epsilon {
            return Err(Error::Invalid(
                "epsilon prediction with zero terminal SNR: at the last timestep the input is the noise itself, and \
                 predicting it says nothing of the picture; use v_prediction, or zero_terminal_snr = false"
                    .into(),
            ));
        }
        Ok(())
    }

    /// The keys of the file with overrides, as JSON.
    pub fn to_json(&self) -> Value {
        Value::Object(self.values.clone())
    }

    /// Writes `scheduler_config.json` into a folder: the keys of the file with overrides.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("create the folder", dir, e))?;
        let text = format!("{:#}\n", Value::Object(self.values.clone()));
        write_file(&dir.join(FILE), |out| out.write_all(text.as_bytes()))
    }

    fn checked(file: File, values: Map<String, Value>, path: &Path) -> Result<Self> {
        let Some(class_name) = file.class_name else {
            return Err(Error::config(path, "_class_name", "a scheduler class of diffusers", "missing"));
        };
        let config = Self {
            class_name,
            num_train_timesteps: file.num_train_timesteps.unwrap_or(1000),
            beta_start: file.beta_start.unwrap_or(0.0001),
            beta_end: file.beta_end.unwrap_or(0.02),
            beta_schedule: beta_schedule(path, file.beta_schedule.as_deref())?,
            trained_betas: file.trained_betas,
            prediction_type: prediction_type(path, file.prediction_type.as_deref())?,
            rescale_betas_zero_snr: file.rescale_betas_zero_snr.unwrap_or(false),
            timestep_spacing: file.timestep_spacing.map(|s| timestep_spacing(path, &s)).transpose()?,
            steps_offset: file.steps_offset.map(|_| 1),
            set_alpha_to_one: file.set_alpha_to_one,
            clip_sample: file.clip_sample.map(|_| false),
            clip_sample_range: file.clip_sample_range.unwrap_or(1.0),
            thresholding: file.thresholding.unwrap_or(false),
            path: path.to_path_buf(),
            values,
        };
        config.check_range()?;
        Ok(config)
    }

    /// steps_offset of `class`: the file's, else 0, but 1 in the model's own class, whose steps_offset the pipeline
    /// corrects.
    pub fn steps_offset_of(&self, class: &str) -> i64 {
        self.steps_offset.unwrap_or(i64::from(self.class_name == class))
    }

    /// Every key stated in the file, with overrides.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// A true or false of the file; None if absent or null.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.value(key, "true or false", Value::as_bool)
    }

    /// A number of the file; None if absent or null.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.value(key, "a number", Value::as_f64)
    }

    /// A text of the file; None if absent or null.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.value(key, "a text", Value::as_str)
    }

    fn value<'a, T>(&'a self, key: &str, expected: &str, read: fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(Error::config(&self.path, key, expected, value.to_string())),
            },
        }
    }

    /// Refuses a file in which one of `keys` is true: its feature is not implemented.
    pub fn refuse_flags(&self, keys: &[&str]) -> Result<()> {
        match keys.iter().find(|key| self.values.get(**key) == Some(&Value::Bool(true))) {
            Some(key) => Err(Error::config(&self.path, key, "false", "true, which is not implemented")),
            None => Ok(()),
        }
    }

    /// Refuses a file in which `key` is a text other than `implemented`.
    pub fn refuse_other_texts(&self, key: &str, implemented: &[&str]) -> Result<()> {
        match self.text(key)?.filter(|found| !implemented.contains(found)) {
            Some(found) => Err(not_implemented(&self.path, key, &format!("{:?}", implemented[0]), found)),
            None => Ok(()),
        }
    }

    fn check_range(&self) -> Result<()> {
        let steps = self.num_train_timesteps;
        if !(2..=1_000_000).contains(&steps) {
            return Err(Error::config(&self.path, "num_train_timesteps", "2 to 1000000", steps.to_string()));
        }
        let fits = |betas: &Vec<f64>| betas.len() as i64 == steps && betas.iter().all(|b| (0.0..1.0).contains(b));
        if let Some(betas) = self.trained_betas.as_ref().filter(|betas| !fits(betas)) {
            let expected = format!("{steps} numbers (num_train_timesteps) in [0, 1)");
            let outside = if betas.len() as i64 == steps { ", some outside" } else { "" };
            let found = format!("{} numbers{outside}", betas.len());
            return Err(Error::config(&self.path, "trained_betas", expected, found));
        }
        for (key, beta) in [("beta_start", self.beta_start), ("beta_end", self.beta_end)] {
            if !(beta > 0.0 && beta < 1.0) {
                return Err(Error::config(&self.path, key, "a number between 0 and 1", beta.to_string()));
            }
        }
        Ok(())
    }
}

fn beta_schedule(path: &Path, found: Option<&str>) -> Result<BetaSchedule> {
    match found {
        None | Some("linear") => Ok(BetaSchedule::Linear),
        Some("scaled_linear") => Ok(BetaSchedule::ScaledLinear),
        Some(other) => Err(not_implemented(path, "beta_schedule", "\"linear\" or \"scaled_linear\"", other)),
    }
}

fn prediction_type(path: &Path, found: Option<&str>) -> Result<PredictionType> {
    let found = found.unwrap_or("epsilon");
    PredictionType::named(found)
        .ok_or_else(|| not_implemented(path, "prediction_type", "\"epsilon\" or \"v_prediction\"", found))
}

fn timestep_spacing(path: &Path, found: &str) -> Result<TimestepSpacing> {
    match found {
        "leading" => Ok(TimestepSpacing::Leading),
        "linspace" => Ok(TimestepSpacing::Linspace),
        "trailing" => Ok(TimestepSpacing::Trailing),
        other => Err(not_implemented(path, "timestep_spacing", "\"leading\", \"linspace\" or \"trailing\"", other)),
    }
}

fn not_implemented(path: &Path, key: &str, expected: &str, found: &str) -> Error {
    Error::config(path, key, expected, format!("{found:?}, which is not implemented"))
}
