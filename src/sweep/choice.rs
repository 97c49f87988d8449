//! The first of two stages: the best point of every method, by figures on prompts that do not judge it.

use super::asha::rank;
use super::figures::{Judged, all_numbers, number};
use super::file::Choose;
use super::folder::Folder;
use super::ledger::{Entries, Status};
use super::metric::Metric;
use super::work::{Stage, Work};
use crate::numbers::mean;
use crate::report::metrics::Metrics;
use crate::runs::Filter;
use anyhow::{Result, anyhow};
use serde::Serialize;
use serde_json::Value;

/// State of the choice between the points of a method.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// Some of its evaluations are not there yet.
    Open,
    Made {
        /// `None`: no point has the metric.
        point: Option<usize>,
        candidates: Vec<Candidate>,
    },
}

/// A point as the choice sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    pub point: usize,
    /// Mean over the choosing seeds; `None` for a failed trial.
    pub value: Option<f64>,
    /// Whether it fulfils `choose.require`.
    pub allowed: bool,
}

impl Choice {
    /// The choice of a method.
    ///
    /// # Errors
    /// Damaged figures; a condition that compares a text with a number.
    pub fn of(folder: &Folder, entries: &Entries, method: usize) -> Result<Self> {
        let plan = &folder.plan;
        let points: Vec<usize> = plan.of_method(method).collect();
        let Some(choose) = &folder.sweep.choose else {
            let candidates = Vec::new();
            let point = points.first().copied().filter(|_| plan.is_one_model(method));
            return Ok(Self::Made { point, candidates });
        };
        let mut candidates = Vec::new();
        for point in points {
            let (mut values, mut allowed, mut failed) = (Vec::new(), true, false);
            for trial in plan.of_point(point).filter(|trial| trial.chooses) {
                match state(entries, &Work::choose(trial.number), trial.training.as_ref().map(|t| t.owner)) {
                    Some(false) => failed = true,
                    None => return Ok(Self::Open),
                    Some(true) => {
                        let (value, fulfils) =
                            measured(folder, choose, trial.number, trial.training.as_ref().map(|t| t.owner))?;
                        values.extend(value);
                        allowed &= fulfils;
                    }
                }
            }
            let value = if failed { None } else { mean(values) };
            candidates.push(Candidate { point, value, allowed });
        }
        Ok(Self::Made { point: best(folder, choose, &candidates)?, candidates })
    }
}

/// Whether an evaluation is there; false if it, or the training before it, failed; `None` while it is open.
fn state(entries: &Entries, work: &Work, owner: Option<usize>) -> Option<bool> {
    let status = |work: &Work| entries.get(work).map_or(Status::Free, |entry| entry.status);
    let trained = owner.map_or(Status::Finished, |owner| status(&Work::train(owner, 0)));
    match (status(work), trained) {
        (Status::Finished, _) => Some(true),
        (Status::Failed, _) | (_, Status::Failed) => Some(false),
        (Status::Free | Status::Claimed, _) => None,
    }
}

fn measured(folder: &Folder, choose: &Choose, trial: usize, owner: Option<usize>) -> Result<(Option<f64>, bool)> {
    let run = owner.map(|owner| Metrics::read(&folder.trial(owner).join("metrics.jsonl"))).transpose()?;
    let judged = Judged::read(&folder.evaluation(trial, Stage::Choose))?;
    let metric = Metric::of(&choose.rank_by, Some(&choose.eval));
    let value = number(&metric, run.as_ref(), judged.as_ref(), None)?;
    let fulfils = match &choose.require {
        Some(text) => holds(text, &all_numbers(run.as_ref(), judged.as_ref())?)?,
        None => true,
    };
    Ok((value, fulfils))
}

/// Whether a condition holds for numbers by name.
///
/// # Errors
/// A condition that is none.
pub fn holds(text: &str, numbers: &std::collections::BTreeMap<String, f64>) -> Result<bool> {
    let filter: Filter = text.parse().map_err(|e: String| anyhow!(e))?;
    filter.holds(&|name: &str| numbers.get(name).map(|number| Value::from(*number))).map_err(|e| anyhow!(e))
}

/// The best allowed candidate; if none is allowed, the best of all. The first of equal ones.
fn best(folder: &Folder, choose: &Choose, candidates: &[Candidate]) -> Result<Option<usize>> {
    let metric = Metric::of(&choose.rank_by, Some(&choose.eval));
    let mut better = None;
    for trial in
        folder.plan.trials.iter().filter(|trial| trial.chooses && candidates.iter().any(|c| c.point == trial.point))
    {
        if better.is_none() {
            let judged = Judged::read(&folder.evaluation(trial.number, Stage::Choose))?;
            better = judged.and_then(|judged| judged.measure(&metric).map(|measure| measure.better));
        }
    }
    let direction = metric.direction(choose.direction, better);
    let mut sorted: Vec<&Candidate> =
        candidates.iter().filter(|candidate| candidate.value.is_some_and(f64::is_finite)).collect();
    sorted
        .sort_by(|a, b| b.allowed.cmp(&a.allowed).then(rank(a.value, b.value, direction)).then(a.point.cmp(&b.point)));
    Ok(sorted.first().map(|candidate| candidate.point))
}
