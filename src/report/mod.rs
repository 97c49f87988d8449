//! The report of a run: a verdict, plots, pictures and figures in one self-contained file.

mod evaluation;
pub mod metrics;
mod page;
pub mod pictures;
pub mod plots;
pub mod rewards;
mod state;
pub mod verdict;

pub use state::State;
pub use verdict::Verdict;

use crate::machine::files::write_atomically;
use crate::metrics::evaluation::Evaluation;
use anyhow::{Context, Result};
use metrics::Metrics;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Writes `report.html` and `report.json` into the folder of a run, which may still be running. Figures of an
/// evaluation become part of both.
///
/// # Errors
/// A damaged file of the run, or an unwritable folder.
pub fn render(run_dir: &Path, evaluation: Option<&Evaluation>) -> Result<Verdict> {
    let metrics = Metrics::read(&run_dir.join("metrics.jsonl"))?;
    let verdict = verdict::judge(&metrics);
    let steps = planned_steps(run_dir);
    let html = page::html(run_dir, &metrics, Some(verdict.clone()), steps, evaluation)
        .with_context(|| format!("cannot write the report of {}", run_dir.display()))?;
    write(run_dir, &html, &figures(&metrics, &verdict, steps, evaluation))?;
    Ok(verdict)
}

/// Writes `report.html` and `report.json` of an evaluation of models that belong to no run.
///
/// # Errors
/// A missing picture, or an unwritable folder.
pub fn render_evaluation(out: &Path, evaluation: &Evaluation) -> Result<()> {
    let html = page::html(out, &Metrics::default(), None, None, Some(evaluation))
        .with_context(|| format!("cannot write the report of {}", out.display()))?;
    write(out, &html, &Map::from_iter([("evaluation".into(), json!(evaluation))]))
}

fn write(dir: &Path, html: &str, figures: &Map<String, Value>) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(figures)?;
    json.push(b'\n');
    write_atomically(&dir.join("report.json"), &json)?;
    write_atomically(&dir.join("report.html"), html.as_bytes())
}

fn figures(
    metrics: &Metrics,
    verdict: &Verdict,
    steps: Option<u64>,
    evaluation: Option<&Evaluation>,
) -> Map<String, Value> {
    let mut figures = Map::new();
    figures.insert("verdict".into(), json!(verdict));
    figures.insert("step".into(), json!(metrics.last_step()));
    figures.insert("steps".into(), json!(steps));
    figures.insert("metrics".into(), Value::Object(metrics.newest_values()));
    figures.extend(evaluation.map(|evaluation| ("evaluation".into(), json!(evaluation))));
    figures
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
