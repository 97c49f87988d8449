//! A training from its first step, or from a checkpoint, to its last.

use super::checkpoint::{self, State};
use super::figures::{self, Figures};
use super::finish;
use super::learner::Learner;
use super::line::Line;
use super::opened::{Member, Opened, START};
use super::settings::{Settings, TABLES};
use crate::keys::{ConfigError, OnResume};
use crate::machine::files::write_atomically;
use crate::progress::{Halted, Progress, Stop, Stopped};
use crate::run_folder::{METRICS, MetricsFile, RESOLVED, Resume, RunDir, checkpoints};
use crate::settings::differences;
use crate::world::Alone;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Sink and signal of a training.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    pub progress: &'a dyn Progress,
    pub stop: &'a Stop,
}

/// A finished training.
pub struct Finished {
    pub out: PathBuf,
    pub step: u64,
    pub figures: Figures,
    /// A resumed run had no steps left.
    pub already: bool,
}

/// Trains one scorer, or a member of an ensemble.
///
/// # Errors
/// `Stopped` (the last finished step is checkpointed), `Halted` (the numbers diverged), errors of files or libtorch.
pub fn run(settings: Settings, member: Member, resume: Resume, host: &Host) -> Result<Finished> {
    let dir = RunDir::open(&settings.train.out, resume, &Alone)?;
    let steps = settings.train.steps;
    let opened = Opened::open(settings, member)?;
    let from = start(&dir, &opened, resume, host.progress)?;
    if let Some((_, state)) = &from
        && state.step >= steps
        && let Some(figures) = finish::read(&dir.path)?
    {
        return Ok(Finished { out: dir.path, step: state.step, figures, already: true });
    }
    let resolved = toml::to_string(&opened.settings)?;
    write_atomically(&dir.join(RESOLVED), resolved.as_bytes())?;
    opened.prepare()?;
    let (base, inputs) = (opened.base.clone(), opened.inputs.clone());
    let mut learner = opened.learner(&base, host.progress, host.stop)?;
    let mut step = 0;
    if let Some((path, state)) = &from {
        checkpoint::load(path, &mut learner)?;
        step = state.step;
        host.progress.line(&format!("resuming at step {step}"));
    }
    let mut saved = step;
    let mut metrics = MetricsFile::open(&dir)?;
    host.progress.begin_steps("train", step, steps, 10);
    let trained = loop {
        if step == steps {
            break Ok(());
        }
        if let Err(error) = take_step(&mut learner, step + 1, &mut metrics, host) {
            break Err(error);
        }
        step += 1;
        let every = learner.settings.train.checkpoint_every;
        if step.is_multiple_of(every) || step == steps {
            // A checkpoint must not outlive the lines before it.
            metrics.sync()?;
            checkpoint::save(&dir.path, &learner, step, &inputs)?;
            saved = step;
        }
        if let Err(stopped) = host.stop.check() {
            break Err(stopped.into());
        }
    };
    host.progress.end();
    if let Err(error) = trained {
        let keeps =
            error.is::<Stopped>() || error.downcast_ref::<Halted>().is_some_and(|halted| halted.last_step_is_good);
        if keeps && saved < step {
            metrics.sync()?;
            checkpoint::save(&dir.path, &learner, step, &inputs)?;
        }
        if keeps {
            host.progress
                .line(&format!("step {step} is checkpointed in {}; continue with --resume", dir.path.display()));
        }
        return Err(error);
    }
    let figures = finish::write(&dir.path, &base, &learner)?;
    Ok(Finished { out: dir.path, step, figures, already: false })
}

fn take_step(learner: &mut Learner, s: u64, metrics: &mut MetricsFile, host: &Host) -> Result<()> {
    let step = learner.step(s, host.stop)?;
    let scale = learner.towers.scale().double_value(&[]);
    let every = learner.settings.validate.every;
    let validates = (every > 0 && s.is_multiple_of(every)) || s == learner.settings.train.steps;
    let validation = if validates { Some(figures::measure(learner)?) } else { None };
    let accuracy = validation.as_ref().and_then(|figures| figures.accuracy);
    let note = match accuracy {
        Some(accuracy) => format!("loss {:.4}  held-out accuracy {:.3}", step.loss, accuracy.mean),
        None => format!("loss {:.4}", step.loss),
    };
    let (loss, lr, grad_norm, lambda) = (step.loss, step.lr, step.grad_norm, step.shares);
    let line = Line { step: s, loss, lr, grad_norm, lambda, scale, validation };
    let json = serde_json::to_string(&line)?;
    metrics.line(&json)?;
    host.progress.metrics(&json);
    host.progress.advance(s, &note);
    Ok(())
}

/// The checkpoint that the run continues from; `None`: a fresh start.
fn start(dir: &RunDir, opened: &Opened, resume: Resume, progress: &dyn Progress) -> Result<Option<(PathBuf, State)>> {
    let settings = &opened.settings;
    let result = [finish::FINAL, "best"].into_iter().find(|name| dir.join(name).exists()).map(String::from);
    if !dir.continues(resume, settings.train.overwrite, &outputs, result)? {
        return Ok(None);
    }
    refuse_changes(&dir.path, settings)?;
    let (newest, passed) = checkpoints::newest(&dir.path, &checkpoint::check);
    passed.iter().for_each(|text| progress.line(text));
    let Some((path, state)) = newest else {
        progress.line("no whole checkpoint yet: starting at step 1 again");
        dir.cut_metrics(0)?;
        return Ok(None);
    };
    if let Some((key, _)) = state.inputs.iter().find(|(key, hash)| opened.inputs.get(*key) != Some(*hash)) {
        bail!(
            "{}: cannot resume: what {key} names has changed since the run began. Restore it, or start another run.",
            dir.path.display()
        );
    }
    dir.cut_metrics(state.step)?;
    Ok(Some((path, state)))
}

/// Refuses a configuration that would change the result of the run. Paths may move: their content is compared later.
fn refuse_changes(run: &Path, settings: &Settings) -> Result<()> {
    let file = run.join(RESOLVED);
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let old: toml::Table = text.parse().with_context(|| format!("{} is damaged", file.display()))?;
    let new: toml::Table = toml::to_string(settings)?.parse()?;
    let on_resume = |table: &str, key: &str| {
        let known =
            TABLES.iter().find(|known| known.name == table).and_then(|known| known.keys().find(|k| k.name == key));
        known.map_or(OnResume::Refused, |key| key.on_resume)
    };
    let refused: Vec<String> = differences(&old, &new)
        .iter()
        .filter(|difference| match on_resume(&difference.table, &difference.key) {
            OnResume::Harmless | OnResume::Rounding | OnResume::SameContent => false,
            OnResume::Refused | OnResume::MoreSteps | OnResume::SameProduct => true,
        })
        .map(|difference| difference.text())
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    bail!(ConfigError(format!(
        "{}: cannot resume with another configuration: {}. Give the run's own values, or start another run.",
        run.display(),
        refused.join("; ")
    )));
}

/// Whether a file or folder of the run folder is output of a training.
pub fn outputs(name: &str) -> bool {
    name.starts_with("checkpoint-")
        || name.starts_with("member-")
        || [RESOLVED, METRICS, START, finish::FINAL, finish::REPORT, "strength.jsonl"].contains(&name)
}
