//! Runs the steps of a recipe that are not there yet.

use super::inputs::key;
use super::recipe::Recipe;
use super::stage::Stage;
use super::state::State;
use super::steps::{Product, Step, steps};
use crate::keys::ConfigError;
use crate::machine::hashes::HashMemory;
use crate::pairs;
use crate::progress::{Progress, Stop};
use crate::settings;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs commands of this program.
pub trait Program {
    /// Runs to the end; stdout of the command is appended to `log`.
    ///
    /// # Errors
    /// A command that fails; [`crate::progress::Stopped`] after a signal.
    fn run(&self, arguments: &[String], log: &Path, stop: &Stop) -> Result<()>;
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub step: Step,
    /// Whether its output is there with the inputs of now. Unknown, hence `false`, behind a step that is not.
    pub cached: bool,
}

/// Result of [`run`].
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    pub ran: usize,
    pub cached: usize,
    /// The log of the evaluation, if the chain got there.
    pub verdict: Option<PathBuf>,
}

/// The steps of a recipe, and which are there already. Nothing is written.
///
/// # Errors
/// A training configuration or an input that cannot be read.
pub fn plan(recipe: &Recipe, until: Option<Stage>, cache_dir: &Path) -> Result<Vec<Planned>> {
    let mut memory = HashMemory::open(cache_dir);
    let (mut planned, mut before, mut valid): (Vec<Planned>, Option<String>, bool) = (Vec::new(), None, true);
    for step in chosen(recipe, until)? {
        let key = key(&step, before.as_deref(), &recipe.out, &mut memory)?;
        valid &= State::read(&step).is_some_and(|state| state.is_valid(&key, &step.out));
        planned.push(Planned { step, cached: valid });
        before = Some(key);
    }
    memory.save();
    Ok(planned)
}

/// Runs what is not there yet.
///
/// # Errors
/// Those of [`plan`], and the first command that fails: what ran before it is kept.
pub fn run(
    recipe: &Recipe,
    until: Option<Stage>,
    program: &dyn Program,
    cache_dir: &Path,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Done> {
    for scorer in recipe.judges_of_own_labels() {
        progress.line(&format!(
            "warning: the scorer \"{scorer}\" of [eval] rates the pairs too: its figures are no independent verdict"
        ));
    }
    let mut memory = HashMemory::open(cache_dir);
    let (mut done, mut before) = (Done { ran: 0, cached: 0, verdict: None }, None);
    let mut consistency = None;
    for step in chosen(recipe, until)? {
        stop.check()?;
        let key = key(&step, before.as_deref(), &recipe.out, &mut memory)?;
        memory.save();
        match State::read(&step).filter(|state| state.is_valid(&key, &step.out)) {
            Some(_) => {
                progress.line(&format!("{}: there already", step.title()));
                done.cached += 1;
            }
            None => {
                run_step(&step, &key, program, progress, stop)?;
                done.ran += 1;
            }
        }
        if step.stage == Stage::Pairs {
            warn_of_less_consistency(&step, &mut consistency, progress);
        }
        if step.stage == Stage::Eval {
            done.verdict = Some(State::log(&step));
        }
        before = Some(key);
    }
    Ok(done)
}

/// Models that agree less and less label worse and worse: CREAM stops there.
fn warn_of_less_consistency(step: &Step, last: &mut Option<f64>, progress: &dyn Progress) {
    let summary = std::fs::read(step.out.join(pairs::SUMMARY)).ok();
    let summary: Option<pairs::Summary> = summary.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let agreed = summary.and_then(|summary| summary.labelled?.consistency).filter(|agreed| agreed.with.is_some());
    let Some(agreed) = agreed else { return };
    if let Some(before) = last.filter(|before| agreed.mean < *before) {
        progress.line(&format!(
            "warning: {}: the consistency of both models fell from {before:.3} to {:.3}; labels of further rounds are worth \
             less",
            step.title(),
            agreed.mean
        ));
    }
    *last = Some(agreed.mean);
}

/// Runs a step, or continues one that was stopped.
fn run_step(step: &Step, key: &str, program: &dyn Program, progress: &dyn Progress, stop: &Stop) -> Result<()> {
    let begun = State::read(step).filter(|state| state.key == key);
    let log = State::log(step);
    let anew = begun.as_ref().is_none_or(|state| state.finished);
    if anew && step.out.exists() && step.stage.starts_empty() {
        progress.line(&format!("{}: inputs changed, {} is made again", step.title(), step.out.display()));
        std::fs::remove_dir_all(&step.out).with_context(|| format!("cannot remove {}", step.out.display()))?;
    }
    let seconds = begun.map_or(0.0, |state| state.seconds);
    let mut state = State { key: key.into(), finished: false, command: step.arguments.clone(), seconds };
    state.write(step)?;
    if anew {
        std::fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
    }
    progress.line(&format!("{}: diffpref {}", step.title(), shown(&step.arguments)));
    let started = Instant::now();
    let ran = program.run(&step.arguments, &log, stop);
    state.seconds += started.elapsed().as_secs_f64();
    state.finished = ran.is_ok();
    state.write(step)?;
    ran.with_context(|| step.title())
}

/// Arguments as a shell reads them.
pub fn shown(arguments: &[String]) -> String {
    shlex::try_join(arguments.iter().map(String::as_str)).unwrap_or_else(|_| arguments.join(" "))
}

/// The steps up to the last one of stage `until`.
fn chosen(recipe: &Recipe, until: Option<Stage>) -> Result<Vec<Step>> {
    let mut steps = steps(recipe, product(recipe)?);
    if let Some(until) = until {
        let last = steps.iter().rposition(|step| step.stage == until);
        let last = last.ok_or_else(|| ConfigError(format!("--until {until}: the recipe has no [{until}]")))?;
        steps.truncate(last + 1);
    }
    Ok(steps)
}

/// Reads the training configuration with the recipe's overrides.
fn product(recipe: &Recipe) -> Result<Product> {
    let config = recipe
        .value(Stage::Train, "config")
        .ok_or_else(|| ConfigError("train.config: expected the configuration of the training, a TOML file".into()))?;
    let sets = recipe.options(Stage::Train).into_iter().flatten().filter(|(name, _)| name == "set");
    let sets: Vec<String> = sets.filter_map(|(_, value)| value.clone()).collect();
    let parsed = settings::load(Path::new(config), &sets)?;
    Ok(if parsed.lora.rank > 0 { Product::Lora } else { Product::Model })
}
