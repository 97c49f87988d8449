//! Work that can be done now: a rule over the plan and the database, the same for every worker.

use super::asha::{Rungs, promotion};
use super::choice::Choice;
use super::figures::number;
use super::file::Sweep;
use super::folder::Folder;
use super::ledger::{Entries, Spent, Status};
use super::metric::Metric;
use super::plan::{Made, Trial};
use super::work::{Stage, Work};
use crate::report::metrics::Metrics;
use anyhow::Result;

/// Work that no other work has to wait for, in the order in which it is done. `only`: the number of one trial.
///
/// # Errors
/// Damaged figures.
pub fn ready(folder: &Folder, entries: &Entries, only: Option<usize>) -> Result<Vec<Work>> {
    let state = State::of(folder, entries)?;
    let mut ready = Vec::new();
    if let Some(asha) = &folder.sweep.asha
        && !state.is_spent()
    {
        ready.extend(next_rung(folder, entries, asha.eta)?);
    }
    for trial in &folder.plan.trials {
        if trial.trains() && folder.sweep.asha.is_none() && !state.is_spent() && state.is_wanted(trial) {
            ready.push(Work::train(trial.number, 0));
        }
        if trial.chooses && state.is_trained(trial) {
            ready.push(Work::choose(trial.number));
        }
        if state.can_be_judged(trial) {
            ready.push(Work::judge(trial.number));
        }
    }
    let is_free = |work: &Work| entries.get(work).is_some_and(|entry| entry.status == Status::Free);
    let of_trial = |work: &Work| only.is_none_or(|number| belongs(folder, work, number));
    Ok(ready.into_iter().filter(|work| is_free(work) && of_trial(work)).collect())
}

/// Whether the work is a trial's own, or the training that it shares.
pub fn belongs(folder: &Folder, work: &Work, number: usize) -> bool {
    let owner = folder.plan.trial(number).and_then(|trial| trial.training.as_ref()).map(|training| training.owner);
    work.trial == number || work.stage == Stage::Train && owner == Some(work.trial)
}

/// Whether the sweep's budget is used up.
pub fn is_spent(sweep: &Sweep, entries: &Entries) -> bool {
    let Some(budget) = &sweep.budget else { return false };
    let sum = entries.values().fold(Spent::default(), |sum, entry| Spent {
        steps: sum.steps + entry.spent.steps,
        pairs: sum.pairs + entry.spent.pairs,
        evaluations: sum.evaluations + entry.spent.evaluations,
        seconds: sum.seconds + entry.spent.seconds,
    });
    budget.steps.is_some_and(|most| sum.steps >= most)
        || budget.pairs.is_some_and(|most| sum.pairs >= most)
        || budget.evaluations.is_some_and(|most| sum.evaluations >= most)
        || budget.minutes.is_some_and(|most| sum.seconds >= most * 60.0)
}

struct State<'a> {
    folder: &'a Folder,
    entries: &'a Entries,
    /// Per method.
    choices: Vec<Choice>,
}

impl<'a> State<'a> {
    fn of(folder: &'a Folder, entries: &'a Entries) -> Result<Self> {
        let methods = 0..folder.plan.methods.len();
        let choices = methods.map(|method| Choice::of(folder, entries, method)).collect::<Result<_>>()?;
        Ok(Self { folder, entries, choices })
    }

    fn is_spent(&self) -> bool {
        is_spent(&self.folder.sweep, self.entries)
    }

    fn is_finished(&self, work: &Work) -> bool {
        self.entries.get(work).is_some_and(|entry| entry.status == Status::Finished)
    }

    /// Whether its point is part of the answer; unknown, hence false, while the choice is open.
    fn is_chosen(&self, trial: &Trial) -> bool {
        let method = self.folder.plan.points[trial.point].method;
        match (&self.folder.sweep.choose, &self.choices[method]) {
            (None, _) => true,
            (Some(_), Choice::Made { point, .. }) => *point == Some(trial.point),
            (Some(_), Choice::Open) => false,
        }
    }

    /// Whether some trial with this training needs it.
    fn is_wanted(&self, owner: &Trial) -> bool {
        let shares = |trial: &&Trial| trial.training.as_ref().is_some_and(|training| training.owner == owner.number);
        self.folder.plan.trials.iter().filter(shares).any(|trial| trial.chooses || self.is_chosen(trial))
    }

    fn is_trained(&self, trial: &Trial) -> bool {
        let last = self.folder.plan.rungs.len() - 1;
        trial.training.as_ref().is_some_and(|training| self.is_finished(&Work::train(training.owner, last)))
    }

    fn can_be_judged(&self, trial: &Trial) -> bool {
        match &self.folder.plan.points[trial.point].made {
            Made::Trained { .. } => trial.judges && self.is_trained(trial) && self.is_chosen(trial),
            Made::Composed { positive, negative } => {
                let parents = positive.iter().chain([negative]);
                parents.into_iter().all(|method| {
                    parent(self.folder, &self.choices[*method], *method, trial.seed).is_some_and(|t| self.is_trained(t))
                })
            }
        }
    }
}

/// The trial whose model a composed row takes from a method: that of its chosen point with the same seed.
pub fn parent<'a>(folder: &'a Folder, choice: &Choice, method: usize, seed: u64) -> Option<&'a Trial> {
    let Choice::Made { point, .. } = choice else { return None };
    let point = (*point)?;
    debug_assert_eq!(folder.plan.points[point].method, method);
    folder.plan.of_point(point).find(|trial| trial.seed == seed)
}

/// The next training of successive halving: a promotion, else a new trial.
fn next_rung(folder: &Folder, entries: &Entries, eta: u64) -> Result<Option<Work>> {
    let trials: Vec<&Trial> = folder.plan.trials.iter().filter(|trial| trial.trains()).collect();
    let (mut finished, mut begun, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for trial in &trials {
        let status =
            |rung: usize| entries.get(&Work::train(trial.number, rung)).map_or(Status::Free, |entry| entry.status);
        let rungs = 0..folder.plan.rungs.len();
        begun.push(rungs.clone().take_while(|rung| status(*rung) != Status::Free).count());
        failed.push(rungs.clone().any(|rung| status(rung) == Status::Failed));
        let done = rungs.take_while(|rung| status(*rung) == Status::Finished).count();
        finished.push(at_rungs(folder, trial, done)?);
    }
    let direction = rank_metric(&folder.sweep).direction(folder.sweep.direction, None);
    let promoted = promotion(&finished, &begun, &failed, folder.plan.rungs.len(), eta, direction);
    let new = || begun.iter().position(|rungs| *rungs == 0).map(|trial| (trial, 0));
    Ok(promoted.or_else(new).map(|(trial, rung)| Work::train(trials[trial].number, rung)))
}

fn rank_metric(sweep: &Sweep) -> Metric {
    Metric::of(&sweep.rank_by, sweep.eval.as_ref())
}

/// The metric of a trial at its finished rungs.
///
/// # Errors
/// Damaged metrics.
pub fn at_rungs(folder: &Folder, trial: &Trial, done: usize) -> Result<Rungs> {
    let metrics = Metrics::read(&folder.trial(trial.number).join("metrics.jsonl"))?;
    let metric = rank_metric(&folder.sweep);
    folder.plan.rungs.iter().take(done).map(|steps| number(&metric, Some(&metrics), None, *steps)).collect()
}
