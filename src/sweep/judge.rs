//! Training and evaluation of a trial, as library calls of this process.

use super::choice::Choice;
use super::figures::{START, TRIAL};
use super::file::{Judge, Side};
use super::folder::Folder;
use super::ledger::{Entries, Spent};
use super::next::parent;
use super::plan::{Made, Trial};
use super::work::{Stage, Work};
use crate::denoising::{NamedModel, models_of_run};
use crate::eval::{Request, Teachers, evaluate};
use crate::keys::ConfigError;
use crate::networks::Machine;
use crate::painting::{Merge, NegativeRequest};
use crate::progress::{Progress, Stop};
use crate::report::{self, Evaluations};
use crate::run_folder::Resume;
use crate::runs;
use crate::settings::{self, Settings};
use crate::train::{self, Host, Opened, Resident};
use crate::world::Alone;
use anyhow::{Context, Result};
use std::path::Path;

/// Trains a trial up to its rung, or continues it.
///
/// # Errors
/// Those of the configuration and the training.
pub fn train_trial(
    folder: &Folder,
    trial: &Trial,
    work: &Work,
    resident: &mut Resident,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Spent> {
    let training = trial.training.as_ref().context("a row without a training")?;
    let (out, mut sets) = (folder.trial(trial.number), training.sets.clone());
    sets.push(format!("train.out={:?}", out.display().to_string()));
    let (before, target) = (rung_steps(folder, work.rung.checked_sub(1)), rung_steps(folder, Some(work.rung)));
    sets.extend(target.map(|steps| format!("train.steps={steps}")));
    let parsed = settings::load(&training.config, &sets)?;
    parsed.notes.iter().for_each(|note| progress.line(note));
    let opened = train::open(&parsed, progress)?;
    tch::set_num_threads(opened.config.train.threads as i32);
    let spent = spent(&opened, before.unwrap_or(0));
    runs::begun(&out, &opened.config.table()?, progress);
    let trained = train::run(resident, opened, Resume::Auto, &Host { world: &Alone, progress, stop });
    runs::ended(&out, &trained, progress);
    trained?;
    Ok(Spent { evaluations: sampled(&out).unwrap_or(spent.evaluations), ..spent })
}

fn rung_steps(folder: &Folder, rung: Option<usize>) -> Option<u64> {
    folder.plan.rungs.get(rung?).copied().flatten()
}

/// Cost of the steps after `before`. Network evaluations: a forward pass per image, and one of the reference.
fn spent(opened: &Opened, before: u64) -> Spent {
    let (train, needs) = (&opened.config.train, &opened.config.method.needs);
    let steps = train.steps.saturating_sub(before);
    let images =
        if needs.loser { opened.items.train.iter().map(|item| item.images.len()).max().unwrap_or(1) } else { 1 };
    let pairs = steps * train.pairs_per_step();
    let evaluations = pairs * images as u64 * if needs.reference { 2 } else { 1 };
    Spent { steps, pairs, evaluations, seconds: 0.0 }
}

/// Network evaluations that a run which samples has counted.
fn sampled(run: &Path) -> Option<u64> {
    let metrics = report::metrics::Metrics::read(&run.join("metrics.jsonl")).ok()?;
    metrics.lines().iter().rev().find_map(|line| line.network_evaluations)
}

/// Evaluates a trial against the model that it started from.
///
/// # Errors
/// Those of the evaluation.
pub fn judge_trial(
    folder: &Folder,
    entries: &Entries,
    trial: &Trial,
    stage: Stage,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<()> {
    let choosing = folder.sweep.choose.as_ref().map(|choose| &choose.eval);
    let judge = match stage {
        Stage::Choose => choosing,
        Stage::Train | Stage::Judge => folder.sweep.eval.as_ref(),
    };
    let judge = judge.context("there is no evaluation to make")?;
    let (models, config) = models(folder, entries, trial, judge)?;
    let out = folder.evaluation(trial.number, stage);
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    tch::set_num_threads(config.train.threads as i32);
    let request = request(folder, trial, judge, models, &config, &out, progress)?;
    let evaluation = evaluate(&request, progress, stop)?;
    let run = folder.trial(trial.number);
    let evaluations = Evaluations { pictures: Some(&evaluation), pairs: None };
    match (stage, runs::is_run(&run)) {
        (Stage::Judge, true) => {
            report::render(&run, evaluations)?;
            runs::evaluated(&run, progress);
            Ok(())
        }
        _ => report::render_evaluations(&out, evaluations),
    }
}

fn request(
    folder: &Folder,
    trial: &Trial,
    judge: &Judge,
    models: Vec<NamedModel>,
    config: &Settings,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Request> {
    let point = &folder.plan.points[trial.point].judging;
    let wrong = |e: String| ConfigError(format!("eval.scorer: {e}"));
    let machine = Machine::of(config)?;
    Ok(Request {
        models,
        prompts: judge.prompts.clone(),
        prompt_column: judge.prompt_column.clone(),
        scorers: judge.scorer.iter().map(|text| text.parse()).collect::<Result<_, String>>().map_err(wrong)?,
        teachers: Teachers::of(config, progress)?,
        seeds: judge.seeds,
        other_seeds: judge.other_seeds,
        steps: point.steps.unwrap_or(judge.steps),
        guidance_scale: point.guidance_scale.or(judge.guidance_scale).or(Some(config.sample.guidance_scale)),
        resolution: Some(config.data.resolution),
        device: machine.device,
        kind: machine.compute,
        batch: judge.batch.max(1),
        cache_dir: config.data.cache_dir.clone(),
        pictures: Some(folder.pictures()),
        out: out.into(),
    })
}

/// Start model and trial. A model on the negative side guides the positive one away from itself.
fn models(folder: &Folder, entries: &Entries, trial: &Trial, judge: &Judge) -> Result<(Vec<NamedModel>, Settings)> {
    let owner = |trial: &Trial| trial.training.as_ref().map(|training| folder.trial(training.owner));
    let of_run = |dir: Option<std::path::PathBuf>| models_of_run(&dir.context("a row without a training")?);
    let point = &folder.plan.points[trial.point];
    let merge =
        Merge { alpha: point.judging.alpha.unwrap_or(judge.alpha), beta: point.judging.beta.unwrap_or(judge.beta) };
    let (start, tried, config) = match &point.made {
        Made::Trained { side } => {
            let (mut models, config) = of_run(owner(trial))?;
            let trained = models.pop().context("the run has no model")?;
            let start = models.pop().context("the run has no start model")?;
            let tried = match side {
                Side::Positive => trained,
                Side::Negative => guided(&start, &start, &trained, merge)?,
            };
            (start, tried, config)
        }
        Made::Composed { positive, negative } => {
            let run = |method: usize| -> Result<(Vec<NamedModel>, Settings)> {
                let choice = Choice::of(folder, entries, method)?;
                of_run(parent(folder, &choice, method, trial.seed).and_then(owner))
            };
            let (mut models, config) = run(*negative)?;
            let trained = models.pop().context("the run has no model")?;
            let start = models.pop().context("the run has no start model")?;
            let model = match positive {
                Some(method) => run(*method)?.0.pop().context("the run has no model")?,
                None => start.clone(),
            };
            let tried = guided(&start, &model, &trained, merge)?;
            (start, tried, config)
        }
    };
    let named = |model: NamedModel, name: &str| NamedModel { name: name.into(), ..model };
    Ok((vec![named(start, START), named(tried, TRIAL)], config))
}

/// `model` guided against the LoRA that `negative` has more than the start model.
fn guided(start: &NamedModel, model: &NamedModel, negative: &NamedModel, merge: Merge) -> Result<NamedModel> {
    if negative.model != start.model || negative.loras.is_empty() || negative.unet != start.unet {
        return Err(ConfigError(
            "a negative side of a sweep is a LoRA: set lora.rank above 0 in its configuration".into(),
        )
        .into());
    }
    let negative = NegativeRequest::of(None, negative.loras.clone(), Some(merge))?;
    Ok(NamedModel { negative, ..model.clone() })
}
