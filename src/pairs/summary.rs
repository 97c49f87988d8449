//! pairs.json: settings, counts, margins.

use super::combine::Combination;
use super::filters::Requirement;
use super::own::Labelled;
use super::reason::Dropped;
use super::rules::Rule;
use super::strength::Strength;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the file.
pub const FILE: &str = "pairs.json";

/// pairs.json
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    pub rule: Rule,
    pub combine: Combination,
    pub require: Vec<Requirement>,
    pub strength: Strength,
    /// SCORER.MEASURE and weight.
    pub by: Vec<(String, f64)>,
    pub prompts: usize,
    pub candidates: usize,
    /// Pairs, lists or pairs to be annotated in the file.
    pub written: usize,
    /// Ties among them.
    pub ties: usize,
    pub dropped: Dropped,
    /// Share of triples of candidates whose majorities form a cycle; `None` without triples.
    pub cyclic_triples: Option<f64>,
    /// Pairs whose winner and loser were exchanged (`--strength flip`).
    pub flipped: usize,
    /// Votes of people that were counted; `None`: measures decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub votes: Option<VoteCounts>,
    /// The model that ranked the candidates; `None`: scorers or people did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labelled: Option<Labelled>,
    /// Rows of earlier rounds in the file, which `written` does not count.
    #[serde(default)]
    pub replayed: usize,
    /// Prompts in refresh.jsonl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed: Option<usize>,
    /// Offsets that `--elo` gives each generator, and how far each scorer misjudges it.
    pub calibration: Vec<Calibrated>,
    /// Quantiles 5, 25, 50, 75, 95 % of the margins; empty for lists.
    pub margins: Vec<f64>,
}

/// Votes of people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VoteCounts {
    pub votes: usize,
    pub voters: usize,
    /// Votes by voter that do not fit the others.
    pub misfits: BTreeMap<String, usize>,
}

/// CHARM's calibration of one measure for one generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    pub measure: String,
    pub model: String,
    pub elo: f64,
    pub offset: f64,
    /// Mismatch degree by the other generators' names, before calibration.
    pub mismatch: BTreeMap<String, f64>,
}
