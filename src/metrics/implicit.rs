//! The file `pairs.json`: models on pairs, without generation.

use super::evaluation::Interval;
use super::per_cent;
use crate::data::items::ImageRef;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Models on pairs of pictures: how a model denoises winners and losers at shared noise levels and noise. The first
/// model is the reference of the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairEvaluation {
    /// The file of the pairs.
    pub source: PathBuf,
    pub pairs: usize,
    pub prompts: usize,
    /// Pictures that cannot be read; their pairs do not count.
    pub unreadable: Vec<String>,
    /// Number of ties, which do not count.
    pub ties: usize,
    /// Shared noise levels, each with noise of its own, per pair.
    pub draws: u64,
    pub beta: f64,
    /// Share of voters for a winner, q of `ideal`.
    pub vote_share: f64,
    /// Pixels per side.
    pub resolution: i64,
    /// Share of pairs with u_ref + ln(q / (1 - q)) > 0: the ranking accuracy of the optimum of the DPO loss (arXiv
    /// 2405.19534).
    pub ideal: Interval,
    /// Share of pairs with |u_ref| < 2, the only ones whose ranking training can turn.
    pub turnable: f64,
    pub models: Vec<PairFigures>,
}

/// Figures of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairFigures {
    pub name: String,
    /// Its files, as text.
    pub source: String,
    /// Share of pairs whose winner has the lower error.
    pub ranking_accuracy: Interval,
    /// `ideal` minus `ranking_accuracy`.
    pub ranking_gap: f64,
    /// Absent for the first model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_first: Option<AgainstFirst>,
    /// Prediction space.
    pub ches_output: Ches,
    /// Gradient of the last layer's weight.
    pub ches_last_layer: Ches,
    /// Pairs with the greatest CHES of the last layer, the greatest first.
    pub worst: Vec<WorstPair>,
}

/// Figures of a model against the first one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgainstFirst {
    /// Share of pairs whose winner gained more over the first model than their loser; equal gains count half.
    pub implicit_accuracy: Interval,
    /// Mean over pairs of (e_ref(w) - e(w)) - (e_ref(l) - e(l)).
    pub margin: Interval,
    /// Pairs that the first model ranks wrong.
    pub wrong_by_first: u64,
    /// Those of them that this model ranks right.
    pub flipped: u64,
}

/// CHES (arXiv 2410.08847, ported): <g_w, g_l> - |g_w|^2 of the gradients g of both errors. Above 0 a step of DPO raises
/// the winner's error, to first order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ches {
    /// Share of pairs above 0.
    pub positive: Interval,
    /// Least and greatest value.
    pub from: f64,
    pub to: f64,
    /// Values at 10, 50 and 90 per cent of the pairs.
    pub deciles: [f64; 3],
    /// Pairs in equal bins from `from` to `to`, in per cent of the fullest bin.
    pub histogram: Vec<f64>,
}

/// A pair and its CHES.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstPair {
    pub id: String,
    pub prompt: String,
    pub winner: ImageRef,
    pub loser: ImageRef,
    pub ches: f64,
}

/// One row of `pairs.jsonl` of an evaluation: a pair by every model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairRow {
    pub id: String,
    pub prompt: String,
    /// -0.5 beta (e_ref(w) - e_ref(l)); minus this is the difficulty of the pair.
    pub u_ref: f64,
    /// By model.
    pub models: Vec<ModelRow>,
}

/// A pair by one model: means over the draws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    pub model: String,
    /// Errors of winner and loser in the space of margins.
    pub errors: [f64; 2],
    pub ches_output: f64,
    pub ches_last_layer: f64,
}

impl PairFigures {
    /// Names and values of the figures as text.
    pub fn in_words(&self, evaluation: &PairEvaluation) -> Vec<(String, String)> {
        let first = evaluation.models.first().map_or("", |first| first.name.as_str());
        let mut out = Vec::new();
        if let Some(AgainstFirst { implicit_accuracy, margin, wrong_by_first, flipped }) = &self.against_first {
            let margin = format!("{:+.2e} [{:+.2e}, {:+.2e}]", margin.mean, margin.lo, margin.hi);
            out.push((format!("implicit accuracy against {first}"), implicit_accuracy.per_cent()));
            out.push(("margin".into(), margin));
            out.push((
                format!("ranked right, of those that {first} ranks wrong"),
                format!("{flipped} of {wrong_by_first}"),
            ));
        }
        out.push(("ranking accuracy".into(), self.ranking_accuracy.per_cent()));
        out.push((format!("ideal at votes of {}", per_cent(evaluation.vote_share)), evaluation.ideal.per_cent()));
        out.push(("gap to the ideal".into(), per_cent(self.ranking_gap)));
        out.push(("CHES above 0, prediction".into(), self.ches_output.positive.per_cent()));
        out.push(("CHES above 0, last layer".into(), self.ches_last_layer.positive.per_cent()));
        out
    }
}

impl PairEvaluation {
    pub const FILE: &'static str = "pairs.json";
    pub const ROWS: &'static str = "pairs.jsonl";

    /// Reads the `pairs.json` of an evaluation's folder; `None` if there is none.
    ///
    /// # Errors
    /// A file of another version.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(Self::FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let read = serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is not an evaluation of this version; run `diffpref eval --pairs` again", path.display())
        });
        read.map(Some)
    }
}
