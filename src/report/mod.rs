//! The report of a run: a verdict, plots, pictures and figures in one self-contained file.

mod evaluation;
mod evaluations;
mod histogram;
mod implicit;
pub mod metrics;
mod page;
pub mod pictures;
pub mod plots;
pub mod rewards;
mod state;
pub mod template;
pub mod verdict;

pub use evaluations::Evaluations;
pub use histogram::histogram;
pub use state::State;
pub use verdict::Verdict;

use crate::machine::files::write_atomically;
use crate::metrics::evaluation::Evaluation;
use crate::metrics::implicit::PairEvaluation;
use anyhow::{Context, Result};
use metrics::Metrics;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Writes `report.html` and `report.json` into the folder of a run, which may still be running. Figures of
/// evaluations become part of both.
///
/// # Errors
/// A damaged file of the run, or an unwritable folder.
pub fn render(run_dir: &Path, evaluations: Evaluations) -> Result<Verdict> {
    let metrics = Metrics::read(&run_dir.join("metrics.jsonl"))?;
    let mut verdict = verdict::judge(&metrics);
    verdict.reasons.extend(evaluations.pairs.and_then(implicit::finding));
    verdict.reasons.extend(evaluations.pictures.map(evaluation::findings).unwrap_or_default());
    let steps = planned_steps(run_dir);
    let html = page::html(run_dir, &metrics, Some(verdict.clone()), steps, evaluations)
        .with_context(|| format!("cannot write the report of {}", run_dir.display()))?;
    let figures = RunFigures {
        verdict: &verdict,
        step: metrics.last_step(),
        steps,
        metrics: metrics.newest_values()?,
        evaluation: evaluations.pictures,
        pairs: evaluations.pairs,
    };
    write(run_dir, &html, &figures)?;
    Ok(verdict)
}

/// Writes `report.html` and `report.json` of evaluations of models that belong to no run.
///
/// # Errors
/// A missing picture, or an unwritable folder.
pub fn render_evaluations(out: &Path, evaluations: Evaluations) -> Result<()> {
    let html = page::html(out, &Metrics::default(), None, None, evaluations)
        .with_context(|| format!("cannot write the report of {}", out.display()))?;
    write(out, &html, &EvaluationFigures { evaluation: evaluations.pictures, pairs: evaluations.pairs })
}

fn write(dir: &Path, html: &str, figures: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(figures)?;
    json.push(b'\n');
    write_atomically(&dir.join("report.json"), &json)?;
    write_atomically(&dir.join("report.html"), html.as_bytes())
}

/// `report.json` of a run.
#[derive(Serialize)]
struct RunFigures<'a> {
    verdict: &'a Verdict,
    step: u64,
    /// `train.steps`; `None` before `resolved.toml` exists.
    steps: Option<u64>,
    /// Newest value of every number.
    metrics: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation: Option<&'a Evaluation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<&'a PairEvaluation>,
}

/// `report.json` of models that belong to no run.
#[derive(Serialize)]
struct EvaluationFigures<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation: Option<&'a Evaluation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<&'a PairEvaluation>,
}

/// `train.steps` of the run; `None` before `resolved.toml` exists.
fn planned_steps(run_dir: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(run_dir.join("resolved.toml")).ok()?;
    toml::from_str::<Planned>(&text).ok().map(|planned| planned.train.steps)
}

/// The part of `resolved.toml` that a report reads: it may be of a run of another version.
#[derive(Deserialize)]
struct Planned {
    train: PlannedTrain,
}

#[derive(Deserialize)]
struct PlannedTrain {
    steps: u64,
}
