//! scores.json: what was rated, by whom, how fast, and how far the scorers agree.

use crate::metrics::{kendall_tau_b, pearson};
use crate::numbers::{mean, median, std};
use crate::scorers::{Better, Measure};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// scores.json, beside scores.jsonl.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Rows of scores.jsonl.
    pub rows: usize,
    pub pictures: usize,
    /// Distinct prompts.
    pub prompts: usize,
    /// Rows left out: they repeat a picture and prompt.
    pub repeated: usize,
    pub unreadable: Vec<Unreadable>,
    pub scorers: Vec<ScoredBy>,
    pub agreement: Vec<Agreement>,
    /// Seconds of rating, decoding included.
    pub seconds: f64,
}

/// A picture that was left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unreadable {
    pub picture: PathBuf,
    pub reason: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScoredBy {
    /// Name in scores.jsonl; the second scorer of a name has a number: style_2.
    pub name: String,
    pub path: PathBuf,
    /// SHA-256 of its weights file; absent for a scorer without weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    pub columns: Vec<Column>,
    /// Pictures rated by this call; the others were stored.
    pub rated: usize,
    /// Pictures per second of this call; `None`: all were stored.
    pub pictures_per_s: Option<f64>,
    /// Comparisons of a scorer that compares; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparisons: Option<Comparisons>,
}

/// Comparisons of every two pictures of a prompt, in both orders.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparisons {
    /// Comparisons made by this call; the others were stored.
    pub made: usize,
    pub per_s: Option<f64>,
    /// Mean of |p(a, b) + p(b, a) - 1|; 0 is a judge that does not depend on the order.
    pub order_inconsistency: Option<f64>,
}

/// Figures of one measure over all rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Column {
    pub measure: Measure,
    pub mean: f64,
    pub std: f64,
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Column {
    /// `None` without numbers.
    pub fn of(measure: &Measure, numbers: &[f64]) -> Option<Self> {
        Some(Self {
            measure: measure.clone(),
            mean: mean(numbers)?,
            std: std(numbers)?,
            min: numbers.iter().copied().fold(f64::INFINITY, f64::min),
            median: median(numbers)?,
            max: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// Agreement of two measures, each turned so that higher is better.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Agreement {
    /// SCORER.MEASURE
    pub a: String,
    pub b: String,
    /// `None`: one of both is constant.
    pub pearson: Option<f64>,
    pub tau_b: Option<f64>,
    /// Mean of tau-b within prompts with two pictures or more.
    pub tau_b_within: Option<f64>,
}

/// A measure that prefers, with its numbers; higher is better.
pub struct Oriented {
    pub name: String,
    pub numbers: Vec<f64>,
}

impl Oriented {
    /// `None` for a measure without a preference.
    pub fn of(scorer: &str, measure: &Measure, numbers: &[f64]) -> Option<Self> {
        let sign = match measure.better {
            Better::Higher => 1.0,
            Better::Lower => -1.0,
            Better::Neither => return None,
        };
        let name = format!("{scorer}.{}", measure.name);
        Some(Self { name, numbers: numbers.iter().map(|number| sign * number).collect() })
    }
}

/// Agreement of every two columns. `groups`: rows of each prompt.
pub fn agreement(columns: &[Oriented], groups: &[Vec<usize>]) -> Vec<Agreement> {
    let mut out = Vec::new();
    for (i, b) in columns.iter().enumerate() {
        for a in columns.iter().take(i) {
            let within = groups.iter().filter_map(|rows| {
                let pick = |column: &Oriented| rows.iter().map(|row| column.numbers[*row]).collect::<Vec<_>>();
                kendall_tau_b(&pick(a), &pick(b))
            });
            out.push(Agreement {
                a: a.name.clone(),
                b: b.name.clone(),
                pearson: pearson(&a.numbers, &b.numbers),
                tau_b: kendall_tau_b(&a.numbers, &b.numbers),
                tau_b_within: mean(within.collect::<Vec<_>>()),
            });
        }
    }
    out
}
