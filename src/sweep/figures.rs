//! Numbers of a trial, read from its files: a metric as one number, or per prompt.

use super::metric::{Form, Metric};
use crate::metrics::evaluation::{Compared, Evaluation, HELD_OUT};
use crate::metrics::wins;
use crate::report::metrics::Metrics;
use crate::runs::series;
use crate::scorers::{Better, Measure};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The start model's name in every evaluation of a sweep, and the trial's.
pub const START: &str = "start";
pub const TRIAL: &str = "trial";

/// A row of scores.jsonl.
#[derive(Deserialize)]
struct Row {
    model: String,
    prompt: String,
    held_out: bool,
    seed: u64,
    scores: BTreeMap<String, BTreeMap<String, f64>>,
}

/// The pictures of an evaluation that count: the first group of prompts.
pub struct Judged {
    pub evaluation: Evaluation,
    rows: Vec<Row>,
    /// In order.
    pub prompts: Vec<String>,
}

/// A metric per prompt: of the trial and of the start model.
#[derive(Debug, Clone, PartialEq)]
pub struct PerPrompt {
    pub trial: Vec<f64>,
    pub start: Vec<f64>,
}

impl Judged {
    /// Reads an evaluation's folder; `None` without one.
    ///
    /// # Errors
    /// Damaged files.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        if !folder.join("eval.json").is_file() {
            return Ok(None);
        }
        let evaluation = Evaluation::read(folder)?;
        let path = folder.join("scores.jsonl");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let parsed = text.lines().map(serde_json::from_str::<Row>).collect::<Result<Vec<_>, _>>();
        let rows = parsed
            .with_context(|| format!("{} is damaged; remove the folder, and it is made again", path.display()))?;
        let only_held_out = evaluation.groups.first().is_some_and(|group| group.name == HELD_OUT);
        let rows: Vec<Row> = rows.into_iter().filter(|row| row.held_out || !only_held_out).collect();
        let mut prompts: Vec<String> = Vec::new();
        for row in &rows {
            if prompts.last() != Some(&row.prompt) && !prompts.contains(&row.prompt) {
                prompts.push(row.prompt.clone());
            }
        }
        Ok(Some(Self { evaluation, rows, prompts }))
    }

    /// The measure of a figure.
    pub fn measure(&self, metric: &Metric) -> Option<&Measure> {
        let Metric::Figure { scorer, measure, .. } = metric else { return None };
        let scored = self.evaluation.scorers.iter().find(|scored| scored.name == *scorer)?;
        scored
            .measures
            .iter()
            .find(|measured| measured.measure.name == measure.as_str())
            .map(|measured| &measured.measure)
    }

    fn compared(&self, metric: &Metric) -> Option<&Compared> {
        let Metric::Figure { scorer, measure, .. } = metric else { return None };
        let group = self.evaluation.groups.first()?;
        self.evaluation.find(scorer, measure, &group.name)
    }

    /// A figure per prompt, in the order of [`prompts`](Self::prompts); `None` for another metric.
    pub fn per_prompt(&self, metric: &Metric) -> Option<PerPrompt> {
        let Metric::Figure { scorer, measure, form } = metric else { return None };
        let better = self.measure(metric)?.better;
        let number = |row: &Row| row.scores.get(scorer)?.get(measure).copied();
        let of = |model: &str| -> Option<BTreeMap<(&str, u64), f64>> {
            let rows = self.rows.iter().filter(|row| row.model == model);
            rows.map(|row| Some(((row.prompt.as_str(), row.seed), number(row)?))).collect()
        };
        let (start, trial) = (of(START)?, of(TRIAL)?);
        let threshold = self.compared(metric)?.best_third.as_ref().map(|third| third.threshold);
        let value = |key: &(&str, u64), x: f64| -> Option<f64> {
            match form {
                Form::Mean => Some(x),
                Form::WinRate => {
                    let gain = x - start.get(key)?;
                    Some(wins(if better == Better::Lower { -gain } else { gain }))
                }
                Form::BestThird => {
                    let reached = if better == Better::Lower { x <= threshold? } else { x >= threshold? };
                    Some(f64::from(reached))
                }
            }
        };
        let means = |numbers: &BTreeMap<(&str, u64), f64>| -> Option<Vec<f64>> {
            let of_prompt = |prompt: &String| {
                let values =
                    numbers.iter().filter(|((of, _), _)| *of == prompt.as_str()).map(|(key, x)| value(key, *x));
                crate::numbers::mean(values.collect::<Option<Vec<f64>>>()?)
            };
            self.prompts.iter().map(of_prompt).collect()
        };
        Some(PerPrompt { trial: means(&trial)?, start: means(&start)? })
    }
}

/// A number of a trial: `run` has metrics.jsonl, `judged` is its evaluation. `until`: the last step that counts.
///
/// # Errors
/// Damaged metrics.
pub fn number(
    metric: &Metric,
    run: Option<&Metrics>,
    judged: Option<&Judged>,
    until: Option<u64>,
) -> Result<Option<f64>> {
    match (metric, run, judged) {
        (Metric::Training(key), Some(metrics), _) => {
            let points = series(metrics, key)?;
            let counted = points.into_iter().rev().find(|(step, _)| until.is_none_or(|until| *step <= until as f64));
            Ok(counted.map(|(_, value)| value))
        }
        (Metric::Figure { .. }, _, Some(judged)) => {
            Ok(judged.per_prompt(metric).and_then(|per| crate::numbers::mean(per.trial)))
        }
        _ => Ok(None),
    }
}

/// Every number of a trial by name, for conditions: metrics of training and figures.
///
/// # Errors
/// None in practice: every line has a form in JSON.
pub fn all_numbers(run: Option<&Metrics>, judged: Option<&Judged>) -> Result<BTreeMap<String, f64>> {
    let mut numbers = BTreeMap::new();
    if let Some(metrics) = run {
        numbers.extend(metrics.newest_values()?.into_iter().filter_map(|(key, value)| Some((key, value.as_f64()?))));
    }
    if let Some(judged) = judged {
        numbers.extend(judged.evaluation.figures());
    }
    Ok(numbers)
}
