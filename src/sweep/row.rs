//! The parts of answer.json.

use super::choice::Candidate;
use super::file::Direction;
use crate::metrics::evaluation::{Interval, SignTest};
use serde::Serialize;

/// A metric of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Column {
    pub name: String,
    pub direction: Direction,
    /// Whether means are shares, written in per cent.
    pub share: bool,
}

/// A point in the ranking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// From 1.
    pub rank: usize,
    pub title: String,
    pub method: String,
    /// Axis and value.
    pub coordinates: Vec<(String, String)>,
    /// Numbers of its trials, in the order of `seeds`.
    pub trials: Vec<usize>,
    pub seeds: Vec<u64>,
    /// Steps of the last rung that it finished; absent without successive halving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Whether it fulfils `require`.
    pub allowed: bool,
    /// In the order of the columns; `None` for a metric that it does not have.
    pub figures: Vec<Option<Figure>>,
    #[serde(skip)]
    pub point: usize,
}

/// A metric of a point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Over training seeds and prompts.
    pub mean: f64,
    /// 95 % interval; `None` for one training seed of a metric without prompts.
    pub interval: Option<Interval>,
    pub per_seed: Vec<f64>,
    /// Mean of the start model on the same prompts and noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Interval>,
    /// This point minus the start model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_start: Option<Difference>,
    /// This point minus the winner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_winner: Option<Difference>,
}

/// A paired difference over prompts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub interval: Interval,
    /// Over prompts; a prompt's number is the mean over pictures and training seeds. Corrected over all tests of the column.
    pub test: SignTest,
}

/// Mean of a metric over the points with a value of an axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// Empty for a sweep without methods.
    pub method: String,
    pub axis: String,
    pub values: Vec<EffectValue>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EffectValue {
    pub value: String,
    /// Mean over points of their means.
    pub mean: f64,
    pub points: usize,
}

/// How a method's point was chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chosen {
    pub method: String,
    /// Title of the chosen point.
    pub chosen: Option<String>,
    pub candidates: Vec<ChosenFrom>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChosenFrom {
    pub title: String,
    #[serde(flatten)]
    pub candidate: Candidate,
}

/// A trial that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    pub trial: usize,
    pub name: String,
    pub stage: String,
    pub reason: String,
}
