//! A run from its first step, or from a checkpoint, to its last.

use super::checkpoint::Pending;
use super::environment;
use super::finish;
use super::forecast::Forecast;
use super::guards::RunawayGuard;
use super::hack_guard::HackGuard;
use super::host::Host;
use super::learner::StepOutcome;
use super::line;
use super::opened::Opened;
use super::outputs::Outputs;
use super::resident::Resident;
use super::run_dir::Start;
use super::session::{Session, is_spent};
use crate::machine::files::write_atomically;
use crate::metrics::Line;
use crate::progress::{Halted, Progress, Stopped};
use crate::run_folder::{RESOLVED, Resume, RunDir};
use crate::world::settle_stop;
use anyhow::{Result, anyhow};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

/// End of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Finished {
        out: PathBuf,
        step: u64,
    },
    /// A resumed run had no steps left.
    AlreadyFinished {
        out: PathBuf,
        step: u64,
    },
}

/// Trains the run of `opened`. `resident` lends the state of earlier runs of the process, and keeps that of this one.
///
/// # Errors
/// `Stopped` (a signal; the last finished step is checkpointed), `Halted` (the numbers diverged; the last checkpoint
/// is whole), errors of files or libtorch. A panic becomes an error: it ends the run and not the process.
pub fn run(resident: &mut Resident, opened: Opened, resume: Resume, host: &Host) -> Result<Outcome> {
    catch_unwind(AssertUnwindSafe(|| start(resident, opened, resume, host))).unwrap_or_else(|panic| {
        // Networks of a broken run may be half changed.
        *resident = Resident::default();
        Err(anyhow!("the run broke off by a fault of the program: {}. Please report it.", text_of(panic.as_ref())))
    })
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

fn start(resident: &mut Resident, opened: Opened, resume: Resume, host: &Host) -> Result<Outcome> {
    let progress = host.progress;
    let dir = RunDir::open(&opened.config.train.out, resume, host.world)?;
    let contents = environment::contents(&opened)?;
    let overwrite = opened.config.train.overwrite;
    let start = dir.start(resume, overwrite, &opened.config, &contents, &mut |text| progress.line(&text))?;
    let steps = opened.config.train.steps;
    if let Start::At(_, state) = &start {
        let spent = state.spent.is_some_and(|factor| is_spent(&opened.config, factor));
        if (state.step >= steps || spent) && dir.join("final").exists() {
            dir.render()?;
            return Ok(Outcome::AlreadyFinished { out: dir.path, step: state.step });
        }
        progress.line(&format!("resuming at step {}", state.step));
    }
    let resolved = toml::to_string(&opened.config.table()?)?;
    dir.write(|| write_atomically(&dir.join(RESOLVED), resolved.as_bytes()))?;
    let mut session = Session::start(resident, opened, &contents, &dir, start, host)?;
    let trained = match train(&mut session, &dir, host) {
        Ok(()) => finished(&session, &dir),
        Err(error) => Err(keep_last_step(&mut session, &dir, error, progress)),
    };
    if let Some(ledger) = &session.ledger {
        ledger.close(progress);
    }
    let step = session.step;
    resident.give_back(session.learner.into_networks());
    trained.map(|()| Outcome::Finished { out: dir.path, step })
}

fn finished(session: &Session, dir: &RunDir) -> Result<()> {
    dir.write(|| finish::write_final(&dir.path, &session.config, &session.folder, &session.learner))?;
    dir.render()
}

/// Checkpoints the last finished step after a signal or diverged numbers: both leave the weights of that step.
fn keep_last_step(session: &mut Session, dir: &RunDir, error: anyhow::Error, progress: &dyn Progress) -> anyhow::Error {
    let good = error.is::<Stopped>() || error.downcast_ref::<Halted>().is_some_and(|h| h.last_step_is_good);
    if !good {
        return error;
    }
    match session.checkpoint(dir) {
        Ok(()) => {
            let place = dir.path.display();
            progress.line(&format!("step {} is checkpointed in {place}; continue with --resume", session.step));
            error
        }
        // The cause is reported first; lost steps explain why the exit code is not the signal's.
        Err(failed) => failed.context(format!("{error:#}; step {} could not be checkpointed", session.step)),
    }
}

fn train(session: &mut Session, dir: &RunDir, host: &Host) -> Result<()> {
    let mut out = Outputs::open(session, dir)?;
    session.prepare_validation(host)?;
    host.progress.begin_steps("train", session.step, session.config.train.steps, session.config.log.every);
    let trained = train_steps(session, &mut out, dir, host);
    host.progress.end();
    trained
}

fn train_steps(session: &mut Session, out: &mut Outputs, dir: &RunDir, host: &Host) -> Result<()> {
    let Host { progress, .. } = *host;
    let mut forecast = Forecast::new(session.step);
    let mut runaway = RunawayGuard::default();
    let mut hacking = session.rollout.as_ref().map(|_| HackGuard::open(&dir.join("metrics.jsonl"))).transpose()?;
    // The samples before training, or pending work of the last step.
    out.after_step(session, dir, &mut forecast, host)?;
    while !session.ended() {
        forecast.timed("rollout", || session.roll_out(host))?;
        let started = Instant::now();
        let outcome = session.take_step(host)?;
        let seconds = started.elapsed().as_secs_f64();
        forecast.spent("train", seconds);
        let line = line::of_step(session, &outcome, seconds);
        progress.advance(session.step, &note(&line));
        if outcome.spike {
            progress.line(&spike(session.step, &outcome));
        }
        if let Some(warning) = hacking.as_mut().and_then(|guard| guard.observe(&line)) {
            progress.line(&warning);
        }
        if let Some(warning) = outcome.records.errors().and_then(|errors| runaway.observe(session.step, errors)) {
            progress.line(&warning);
        }
        session.pending = Pending { line: Some(line), beta: outcome.beta, samples: session.samples_due() };
        out.after_step(session, dir, &mut forecast, host)?;
        if let Some(text) = forecast.due(session) {
            progress.line(&text);
        }
        settle_stop(host.world, host.stop)?;
    }
    Ok(())
}

fn spike(step: u64, outcome: &StepOutcome) -> String {
    let met = if outcome.skipped { "the step was skipped" } else { "train.on_spike = \"warn\" lets it pass" };
    format!("step {step}: the gradient norm {:.3e} left its recent range: {met}", outcome.grad_norm)
}

/// Note of the progress bar next to the step.
fn note(line: &Line) -> String {
    let parts = [
        line.loss.map(|x| format!("loss {x:.4}")),
        line.implicit_acc.map(|x| format!("implicit acc {x:.2}")),
        line.pairs_per_s.map(|x| format!("{x:.2} pairs/s")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}
