//! Requests and answers as JSON (docs/scorer-protocol.md).

use crate::scorers::measure::{Better, Measure, Range, Scope};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::PathBuf;

/// Version of the protocol.
pub const PROTOCOL: u32 = 1;

#[derive(Serialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request<'a> {
    Describe { protocol: u32 },
    Score { id: u64, timestep: i64, items: Vec<Rated<'a>> },
    Compare { id: u64, items: Vec<Compared<'a>> },
}

/// A picture to be rated.
#[derive(Serialize)]
pub struct Rated<'a> {
    pub prompt: &'a str,
    pub picture: Picture,
}

/// Two pictures to be compared.
#[derive(Serialize)]
pub struct Compared<'a> {
    pub prompt: &'a str,
    pub first: Picture,
    pub second: Picture,
}

/// A picture in the form that the description names.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Picture {
    /// PNG file, base64.
    Png(String),
    /// Path of a PNG file that exists until the answer.
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureForm {
    #[default]
    Png,
    File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Score,
    Compare,
}

/// Answer to `describe`.
#[derive(Debug, Clone, Deserialize)]
pub struct Description {
    pub protocol: u32,
    pub name: String,
    /// Changes whenever the numbers of a picture may change.
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub measures: Vec<DescribedMeasure>,
    #[serde(default = "score_only")]
    pub verbs: Vec<Verb>,
    #[serde(default)]
    pub pictures: PictureForm,
    /// Most pictures, or pairs of pictures, per request.
    #[serde(default = "default_batch")]
    pub batch: usize,
}

fn score_only() -> Vec<Verb> {
    vec![Verb::Score]
}

fn default_batch() -> usize {
    16
}

#[derive(Debug, Clone, Deserialize)]
pub struct DescribedMeasure {
    pub name: String,
    #[serde(default)]
    pub unit: String,
    #[serde(default)]
    pub min: Option<f64>,
    #[serde(default)]
    pub max: Option<f64>,
    #[serde(default = "higher")]
    pub better: Better,
    #[serde(default = "of_prompt")]
    pub scope: Scope,
}

fn higher() -> Better {
    Better::Higher
}

fn of_prompt() -> Scope {
    Scope::Prompt
}

impl DescribedMeasure {
    pub fn measure(&self) -> Measure {
        Measure {
            name: Cow::Owned(self.name.clone()),
            unit: Cow::Owned(self.unit.clone()),
            range: Range::Real { min: self.min, max: self.max },
            better: self.better,
            scope: self.scope,
        }
    }
}

impl Description {
    /// Why it cannot be used; `None`: it can.
    pub fn problem(&self) -> Option<String> {
        let names: Vec<&str> = self.measures.iter().map(|measure| measure.name.as_str()).collect();
        let twice = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)).map(|(_, name)| name);
        if self.protocol != PROTOCOL {
            return Some(format!("speaks protocol {}, expected {PROTOCOL}", self.protocol));
        }
        if self.verbs.contains(&Verb::Score) && names.is_empty() {
            return Some("describes no measure, and \"score\" is among its verbs: expected at least one".into());
        }
        if let Some(name) = names.iter().find(|name| name.is_empty() || name.contains(['.', '"', ' '])) {
            return Some(format!("describes a measure {name:?}: expected a name without dots, quotes and spaces"));
        }
        if let Some(name) = twice {
            return Some(format!("describes the measure {name:?} twice"));
        }
        (self.batch == 0).then(|| "describes a batch of 0 pictures: expected at least 1".into())
    }
}

/// Answer to `score` or `compare`: numbers or an error.
#[derive(Debug, Deserialize)]
pub struct Answer {
    pub id: Option<u64>,
    /// One row per picture, one number per measure; null where there is none.
    pub scores: Option<Vec<Vec<Option<f64>>>>,
    /// Probability that the first picture is better, one per pair.
    pub probabilities: Option<Vec<Option<f64>>>,
    pub error: Option<String>,
}
