//! Estimated cost of a sweep: time and disk, from the plans of its trainings.

use super::folder::Folder;
use super::ledger::{Entries, Status};
use super::plan::Trial;
use super::work::{Stage, Work};
use crate::eval::{plan as pictures, read_prompts};
use crate::progress::Progress;
use crate::settings;
use crate::train::{self, plan::dry_run};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// Passes of a training step per forward pass without gradients: policy forward and backward, and the reference.
const PASSES: f64 = 4.0;
/// Checkpoints, final weights in two formats and the best ones, in sizes of the optimizer's state.
const COPIES: f64 = 6.0;

/// Estimated cost of what is left to do. Rough: nothing is trained for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    pub trials: usize,
    pub trainings: usize,
    /// Trials whose training another trial has.
    pub shared: usize,
    /// Evaluations of [choose] and [eval].
    pub evaluations: usize,
    pub seconds: f64,
    pub mib: f64,
    /// Trials whose configuration is refused, with the reason.
    pub refused: Vec<(usize, String)>,
}

/// Opens the configuration of one trial per method, and counts.
///
/// # Errors
/// Unreadable prompts of an evaluation.
pub fn estimate(folder: &Folder, entries: &Entries, progress: &dyn Progress) -> Result<Estimate> {
    let plan = &folder.plan;
    let all = Work::all(plan, folder.sweep.eval.is_some());
    let is_left = |work: &&Work| entries.get(work).is_none_or(|entry| entry.status != Status::Finished);
    let left: Vec<Work> = all.iter().filter(is_left).copied().collect();
    let mut estimate = Estimate {
        trials: plan.trials.len(),
        trainings: plan.trainings(),
        shared: plan.trials.iter().filter(|trial| trial.training.is_some() && !trial.trains()).count(),
        evaluations: all.iter().filter(|work| work.stage != Stage::Train).count(),
        seconds: 0.0,
        mib: 0.0,
        refused: Vec::new(),
    };
    let mut costs: BTreeMap<usize, Option<Cost>> = BTreeMap::new();
    for work in &left {
        let Some(trial) = plan.trial(work.trial) else { continue };
        let method = plan.points[trial.point].method;
        let cost = costs.entry(method).or_insert_with(|| match cost(trial, progress) {
            Ok(cost) => Some(cost),
            Err(error) => {
                estimate.refused.push((trial.number, format!("{error:#}")));
                None
            }
        });
        let Some(cost) = cost else { continue };
        // Of the points of a method, one is judged and trained with further seeds where a choice is made.
        let points = plan.of_method(method).count().max(1) as f64;
        let chosen = if folder.sweep.choose.is_some() { 1.0 / points } else { 1.0 };
        match work.stage {
            Stage::Train => {
                let steps = plan.rungs.get(work.rung).copied().flatten().unwrap_or(cost.steps);
                // Of rungs above the first, one trial in eta gets there.
                let share = folder.sweep.asha.map_or(1.0, |asha| (asha.eta as f64).powi(-(work.rung as i32)))
                    * if trial.chooses { 1.0 } else { chosen };
                estimate.seconds += cost.seconds_per_step * steps as f64 * share;
                estimate.mib += if work.rung == 0 { cost.mib * share } else { 0.0 };
            }
            Stage::Choose | Stage::Judge => {
                let painted = painted(folder, work.stage)?;
                let share = if work.stage == Stage::Judge { chosen } else { 1.0 };
                estimate.seconds += painted * cost.seconds_per_row * share;
            }
        }
    }
    Ok(estimate)
}

struct Cost {
    steps: u64,
    seconds_per_step: f64,
    /// A forward pass of one picture.
    seconds_per_row: f64,
    mib: f64,
}

fn cost(trial: &Trial, progress: &dyn Progress) -> Result<Cost> {
    let Some(training) = &trial.training else {
        return Ok(Cost { steps: 0, seconds_per_step: 0.0, seconds_per_row: 0.0, mib: 0.0 });
    };
    let opened = train::open(&settings::load(&training.config, &training.sets)?, progress)?;
    tch::set_num_threads(opened.config.train.threads as i32);
    let config = &opened.config.train;
    let plan = dry_run(&opened)?;
    let sampled = plan.rollout.as_ref().map_or(0.0, |rollout| rollout.evaluations as f64);
    let seconds_per_row = plan.seconds_per_forward / (config.micro_batch as f64 * 2.0);
    let seconds_per_step = plan.seconds_per_forward * config.grad_accum as f64 * PASSES + sampled * seconds_per_row;
    Ok(Cost { steps: config.steps, seconds_per_step, seconds_per_row, mib: plan.optimizer_mib * COPIES })
}

/// Forward passes of one picture in an evaluation: both sides of guidance at every step.
fn painted(folder: &Folder, stage: Stage) -> Result<f64> {
    let judge = match stage {
        Stage::Choose => folder.sweep.choose.as_ref().map(|choose| &choose.eval),
        Stage::Train | Stage::Judge => folder.sweep.eval.as_ref(),
    };
    let Some(judge) = judge else { return Ok(0.0) };
    let (prompts, _) = read_prompts(&judge.prompts, judge.prompt_column.as_deref())?;
    Ok(pictures(&prompts, judge.seeds, judge.other_seeds).len() as f64 * judge.steps as f64 * 2.0)
}
