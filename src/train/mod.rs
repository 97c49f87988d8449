//! Training as a library call: no process state. Generators are values, signals and threads are the CLI's, progress
//! goes to a sink.

pub mod checkpoint;
mod environment;
mod feed;
mod finish;
mod forecast;
mod forward;
pub mod guards;
mod hack_guard;
mod learner;
pub mod metrics;
pub mod optimizer;
pub mod plan;
mod prompt_batches;
mod prompts;
pub mod run_dir;
mod samples;
mod session;
pub mod step;
mod stepwise;
pub mod tensorboard;
mod truncated;
mod validation;

pub use run_dir::Resume;
pub use session::{Opened, open};

use crate::data::items::ItemKind;
use crate::machine::files::write_atomically;
use crate::metrics::put;
use crate::objectives::Step;
use crate::progress::{Halted, Progress, Stop, Stopped};
use crate::report;
use crate::rollout::Resources;
use anyhow::Result;
use checkpoint::{Pending, State};
use forecast::Forecast;
use guards::RunawayGuard;
use hack_guard::HackGuard;
use run_dir::{MetricsFile, RunDir, Start};
use serde_json::{Map, Value, json};
use session::Session;
use std::path::PathBuf;
use std::time::Instant;
use step::StepOutcome;
use tensorboard::EventWriter;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Finished {
        out: PathBuf,
        step: u64,
    },
    /// A resumed run had nothing left to do.
    AlreadyFinished {
        out: PathBuf,
        step: u64,
    },
}

/// Trains what `opened` describes.
///
/// # Errors
/// `Stopped` (a signal; the last finished step is checkpointed), `Halted` (the numbers ran away; the last checkpoint is
/// whole), anything that files or libtorch refuse.
pub fn run(opened: Opened, resume: Resume, progress: &dyn Progress, stop: &Stop) -> Result<Outcome> {
    let dir = RunDir::lock(&opened.config.train.out, resume)?;
    let contents = environment::contents(&opened)?;
    let overwrite = opened.config.train.overwrite;
    let start = dir.start(resume, overwrite, &opened.table, &contents, &mut |text| progress.line(&text))?;
    let steps = opened.config.train.steps;
    if let Start::At(_, state) = &start {
        if state.step >= steps && dir.join("final").exists() {
            report::render(&dir.path, None)?;
            return Ok(Outcome::AlreadyFinished { out: dir.path, step: state.step });
        }
        progress.line(&format!("resuming at step {}", state.step));
    }
    write_atomically(&dir.join(run_dir::RESOLVED), toml::to_string(&opened.table)?.as_bytes())?;
    let mut session = Session::start(opened, &contents, &dir, start, progress, stop)?;
    if let Err(error) = train(&mut session, &dir, progress, stop) {
        return Err(keep_last_step(&mut session, &dir, error, progress));
    }
    finish::write_final(&dir.path, &session.config, &session.folder, &session.learner)?;
    report::render(&dir.path, None)?;
    Ok(Outcome::Finished { out: dir.path, step: session.step })
}

/// Checkpoints the last finished step where a signal or runaway numbers ended the run: both leave the weights as that
/// step made them.
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
        // What ended the run is said first; that its last steps are lost is why the exit code is not the signal's.
        Err(failed) => failed.context(format!("{error:#}; step {} could not be checkpointed", session.step)),
    }
}

fn train(session: &mut Session, dir: &RunDir, progress: &dyn Progress, stop: &Stop) -> Result<()> {
    let mut out = Outputs::open(session, dir)?;
    session.prepare_validation(progress, stop)?;
    progress.begin_steps("train", session.step, session.config.train.steps, session.config.log.every);
    let trained = train_steps(session, &mut out, dir, progress, stop);
    progress.end();
    trained
}

fn train_steps(
    session: &mut Session,
    out: &mut Outputs,
    dir: &RunDir,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<()> {
    let mut forecast = Forecast::new(session.step);
    let mut runaway = RunawayGuard::default();
    let mut hacking = session.rollout.as_ref().map(|_| HackGuard::open(&dir.join("metrics.jsonl"))).transpose()?;
    // The samples before training, or what a signal kept the last step from.
    out.after_step(session, dir, &mut forecast, progress, stop)?;
    while session.step < session.config.train.steps {
        forecast.timed("rollout", || session.roll_out(progress, stop))?;
        let started = Instant::now();
        let outcome = session.take_step(stop)?;
        let seconds = started.elapsed().as_secs_f64();
        forecast.spent("train", seconds);
        let line = session.line(&outcome, seconds);
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
        out.after_step(session, dir, &mut forecast, progress, stop)?;
        if let Some(text) = forecast.due(session) {
            progress.line(&text);
        }
        stop.check()?;
    }
    Ok(())
}

fn spike(step: u64, outcome: &StepOutcome) -> String {
    let met = if outcome.skipped { "the step was skipped" } else { "train.on_spike = \"warn\" lets it pass" };
    format!("step {step}: the gradient norm {:.3e} left its recent range: {met}", outcome.grad_norm)
}

/// What the progress bar says beside the step.
fn note(line: &Map<String, Value>) -> String {
    let number = |key: &str| line.get(key).and_then(Value::as_f64);
    let mut parts = Vec::new();
    if let Some(x) = number("loss") {
        parts.push(format!("loss {x:.4}"));
    }
    if let Some(x) = number("implicit_acc") {
        parts.push(format!("implicit acc {x:.2}"));
    }
    if let Some(x) = number("pairs_per_s") {
        parts.push(format!("{x:.2} pairs/s"));
    }
    parts.join("  ")
}

/// The files a run appends to while it trains.
struct Outputs {
    metrics: MetricsFile,
    events: Option<EventWriter>,
}

impl Outputs {
    fn open(session: &Session, dir: &RunDir) -> Result<Self> {
        let events = match session.config.log.tensorboard {
            true => Some(EventWriter::create(&dir.path, session.step)?),
            false => None,
        };
        Ok(Self { metrics: MetricsFile::open(dir)?, events })
    }

    /// Validates, writes the metrics line, keeps the best weights, paints and checkpoints, as far as the last finished
    /// step asks for it. A signal in between leaves the rest pending, for the resumed run.
    fn after_step(
        &mut self,
        session: &mut Session,
        dir: &RunDir,
        forecast: &mut Forecast,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<()> {
        if let Some(mut line) = session.pending.line.clone() {
            if session.validates_now() {
                line.extend(forecast.timed("validate", || session.validate(progress, stop))?);
            }
            self.metrics(session, &line, progress)?;
            (session.pending.line, session.saved) = (None, None);
            session.keep_best(dir, &line)?;
        }
        if session.pending.samples {
            forecast.timed("sample", || self.sample(session, dir, progress, stop))?;
            (session.pending.samples, session.saved) = (false, None);
        }
        if session.checkpoint_due() {
            self.metrics.sync()?;
            forecast.timed("checkpoint", || session.checkpoint(dir))?;
            if session.rollout.is_some() {
                // A hacked reward must show while it happens.
                report::render(&dir.path, None)?;
            }
        }
        Ok(())
    }

    fn metrics(&mut self, session: &Session, line: &Map<String, Value>, progress: &dyn Progress) -> Result<()> {
        let json = Value::Object(line.clone()).to_string();
        self.metrics.line(&json)?;
        progress.metrics(&json);
        let Some(events) = &mut self.events else { return Ok(()) };
        if session.step.is_multiple_of(session.config.log.every) || session.step == session.config.train.steps {
            for (key, value) in line.iter().filter(|(k, _)| *k != "step") {
                if let Some(x) = value.as_f64() {
                    events.scalar(key, session.step, x)?;
                }
            }
            events.flush()?;
        }
        Ok(())
    }

    fn sample(&mut self, session: &Session, dir: &RunDir, progress: &dyn Progress, stop: &Stop) -> Result<()> {
        let png = session.sample(dir, progress, stop)?;
        if let Some(events) = &mut self.events {
            events.image("samples", session.step, &png)?;
            events.flush()?;
        }
        Ok(())
    }
}

impl Session {
    /// The metrics line of a step, without validation.
    fn line(&mut self, outcome: &StepOutcome, seconds: f64) -> Map<String, Value> {
        let train = &self.config.train;
        let mut line = Map::new();
        line.insert("step".into(), json!(self.step));
        let epoch = match &self.rollout {
            Some(rollout) => rollout.epoch(),
            None => (self.step * train.pairs_per_step()) as f64 / self.feed.train_len() as f64,
        };
        put(&mut line, "epoch", Some(epoch));
        put(&mut line, "lr", Some(outcome.lr));
        outcome.records.write(&mut line, self.learner.weighted, self.feed.range());
        metrics::write_renewal(&mut line, &outcome.renewal);
        if self.learner.has_beta {
            put(&mut line, "beta", Some(outcome.beta));
        }
        if let Some(rollout) = &mut self.rollout {
            line.extend(rollout.take_report());
            line.insert("network_evaluations".into(), json!(rollout.state.evaluations));
        }
        put(&mut line, "grad_norm", (!outcome.records.losses.is_empty()).then_some(outcome.grad_norm));
        for (key, present) in [("spike", outcome.spike), ("skipped", outcome.skipped)] {
            if present {
                line.insert(key.into(), json!(true));
            }
        }
        put(&mut line, "pairs_per_s", Some(outcome.records.losses.len() as f64 / seconds));
        put(&mut line, "s_per_step", Some(seconds));
        put(&mut line, "data_wait_s", Some(self.feed.waited()));
        put(&mut line, "peak_mem_gib", metrics::peak_mem_gib(self.learner.networks.machine.device));
        line
    }

    fn keep_best(&mut self, dir: &RunDir, line: &Map<String, Value>) -> Result<()> {
        let value = |key: &str| line.get(key).and_then(Value::as_f64);
        // Labelled images have no margin: their loss is what falls.
        let worth = match (&self.rollout, self.learner.needs.items) {
            (Some(_), _) => value("val_reward"),
            (None, ItemKind::Labels) => value("val_loss").map(|loss| -loss),
            (None, _) => value("val_margin"),
        };
        let Some(worth) = worth else { return Ok(()) };
        if self.best.is_none_or(|(_, best)| worth > best) {
            finish::write_best(&dir.path, &self.learner)?;
            self.best = Some((self.step, worth));
        }
        Ok(())
    }

    fn checkpoint_due(&self) -> bool {
        let train = &self.config.train;
        let kept = train.keep_every.is_some_and(|k| self.step.is_multiple_of(k));
        self.step > 0 && (self.step.is_multiple_of(train.checkpoint_every) || self.step == train.steps || kept)
    }

    /// Writes the state of the last finished step, unless it is on disk already.
    fn checkpoint(&mut self, dir: &RunDir) -> Result<()> {
        if self.saved == Some(self.step) {
            return Ok(());
        }
        let state = State {
            step: self.step,
            beta: self.learner.beta.clone(),
            guard: self.learner.guard.clone(),
            statistics: self.learner.statistics.clone(),
            reference: self.learner.networks.moved.as_ref().map(|m| m.state.clone()),
            rollout: self.rollout.as_ref().map(|rollout| rollout.state.clone()),
            unreadable: self.feed.unreadable(),
            start_errors: self.start_errors.clone(),
            best: self.best,
            pending: self.pending.clone(),
            files: Default::default(),
        };
        checkpoint::save(&dir.path, &self.learner, self.rollout.as_ref(), state)?;
        self.saved = Some(self.step);
        let train = &self.config.train;
        checkpoint::rotate(&dir.path, self.step, train.keep_last, train.keep_every)?;
        match &self.rollout {
            Some(rollout) => rollout.remove_old(checkpoint::rollout_files(&dir.path)),
            None => Ok(()),
        }
    }

    fn validate(&self, progress: &dyn Progress, stop: &Stop) -> Result<Map<String, Value>> {
        let _ema = self.learner.averaged();
        if let Some(rollout) = &self.rollout {
            let (networks, prompts, folder) = (&self.learner.networks, &self.feed, &self.folder);
            return rollout.validate(&Resources { networks, prompts, folder, progress, stop });
        }
        let Some(start) = &self.start_errors else { return Ok(Map::new()) };
        progress.begin("validate", 0, start.len() as u64);
        let (number, steps) = (self.step, self.learner.steps);
        let step = Step { beta: self.pending.beta, number, steps, statistic: 0.0 };
        let values = validation::validate(&self.learner, &mut self.feed.validation(), start, step, progress, stop);
        progress.end();
        values
    }

    fn sample(&self, dir: &RunDir, progress: &dyn Progress, stop: &Stop) -> Result<Vec<u8>> {
        let _ema = self.learner.averaged();
        let networks = &self.learner.networks;
        samples::paint(&dir.path, self.step, &self.config, &self.folder, networks, &self.feed, progress, stop)
    }
}
