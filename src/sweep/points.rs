//! Measured numbers of the trials of every point of the answer.

use super::choice::Choice;
use super::figures::{Judged, all_numbers, number};
use super::folder::Folder;
use super::ledger::{Entries, Status};
use super::metric::Metric;
use super::plan::{Made, Trial};
use super::work::{Stage, Work};
use crate::report::metrics::Metrics;
use anyhow::Result;
use std::collections::BTreeMap;

/// A trial with its files.
pub struct Measured {
    pub number: usize,
    pub seed: u64,
    pub metrics: Option<Metrics>,
    pub judged: Option<Judged>,
    /// Steps of the last finished rung of successive halving.
    pub steps: Option<u64>,
}

impl Measured {
    /// # Errors
    /// Damaged metrics.
    pub fn number(&self, metric: &Metric) -> Result<Option<f64>> {
        number(metric, self.metrics.as_ref(), self.judged.as_ref(), self.steps)
    }

    /// # Errors
    /// None in practice.
    pub fn numbers(&self) -> Result<BTreeMap<String, f64>> {
        all_numbers(self.metrics.as_ref(), self.judged.as_ref())
    }
}

/// The points of the answer with their finished trials; points without one are left out.
///
/// # Errors
/// Damaged files of a trial.
pub fn measured(folder: &Folder, entries: &Entries, choices: &[Choice]) -> Result<Vec<(usize, Vec<Measured>)>> {
    let mut points = Vec::new();
    for (index, point) in folder.plan.points.iter().enumerate() {
        let chosen = match (&point.made, &folder.sweep.choose, &choices[point.method]) {
            (Made::Composed { .. }, _, _) | (_, None, _) => true,
            (Made::Trained { .. }, Some(_), Choice::Made { point, .. }) => *point == Some(index),
            (Made::Trained { .. }, Some(_), Choice::Open) => false,
        };
        let trials = folder.plan.of_point(index).filter(|trial| chosen && is_finished(folder, entries, trial));
        let trials = trials.map(|trial| of_trial(folder, entries, trial)).collect::<Result<Vec<_>>>()?;
        if !trials.is_empty() {
            points.push((index, trials));
        }
    }
    Ok(points)
}

/// Whether all that the answer reads of a trial is there. With successive halving the first rung is enough.
fn is_finished(folder: &Folder, entries: &Entries, trial: &Trial) -> bool {
    let finished = |work: &Work| entries.get(work).is_some_and(|entry| entry.status == Status::Finished);
    let composed = trial.training.is_none();
    if !(trial.judges || composed) {
        return false;
    }
    let trained = trial.training.as_ref().is_none_or(|training| finished(&Work::train(training.owner, 0)));
    let judged = folder.sweep.eval.is_none() || folder.sweep.asha.is_some() || finished(&Work::judge(trial.number));
    trained && judged
}

fn of_trial(folder: &Folder, entries: &Entries, trial: &Trial) -> Result<Measured> {
    let owner = trial.training.as_ref().map(|training| training.owner);
    let metrics = owner.map(|owner| Metrics::read(&folder.trial(owner).join("metrics.jsonl"))).transpose()?;
    let judge = Work::judge(trial.number);
    let is_judged = entries.get(&judge).is_some_and(|entry| entry.status == Status::Finished);
    let judged = match is_judged {
        true => Judged::read(&folder.evaluation(trial.number, Stage::Judge))?,
        false => None,
    };
    let steps = match folder.sweep.asha {
        Some(_) => last_rung(folder, entries, trial),
        None => None,
    };
    Ok(Measured { number: trial.number, seed: trial.seed, metrics, judged, steps })
}

fn last_rung(folder: &Folder, entries: &Entries, trial: &Trial) -> Option<u64> {
    let finished = |rung: &usize| {
        entries.get(&Work::train(trial.number, *rung)).is_some_and(|entry| entry.status == Status::Finished)
    };
    let done = (0..folder.plan.rungs.len()).take_while(finished).count();
    folder.plan.rungs.get(done.checked_sub(1)?).copied().flatten()
}
