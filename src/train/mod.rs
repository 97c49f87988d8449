//! Training as a library call: no process state. Generators are values, signals and threads are the CLI's, progress
//! goes to a sink.

pub mod checkpoint;
mod environment;
mod feed;
mod finish;
mod forecast;
pub mod guards;
pub mod metrics;
pub mod optimizer;
pub mod plan;
pub mod policy;
pub mod run_dir;
mod samples;
mod session;
pub mod step;
mod validation;

pub use run_dir::Resume;
pub use session::{Opened, open};

use crate::data::files::write_atomically;
use crate::progress::{Progress, Stop, Stopped};
use crate::report;
use crate::report::tensorboard::EventWriter;
use anyhow::Result;
use checkpoint::State;
use forecast::Forecast;
use optimizer::Swapped;
use run_dir::{MetricsFile, RunDir, Start};
use serde_json::{Map, Value, json};
use session::Session;
use std::path::PathBuf;
use std::time::Instant;
use step::{Halted, StepOutcome};

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
    let dir = RunDir::lock(&opened.config.train.out)?;
    let start = {
        let same = opened.same_content(&dir.path);
        let overwrite = opened.config.train.overwrite;
        dir.start(resume, overwrite, &opened.table, &same, &mut |text| progress.line(&text))?
    };
    let steps = opened.config.train.steps;
    if let Start::At(_, state) = &start {
        if state.step >= steps && dir.join("final").exists() {
            report::render(&dir.path, None)?;
            return Ok(Outcome::AlreadyFinished { out: dir.path, step: state.step });
        }
        progress.line(&format!("resuming at step {}", state.step));
    }
    write_atomically(&dir.join(run_dir::RESOLVED), toml::to_string(&opened.table)?.as_bytes())?;
    let mut session = Session::start(opened, &dir, start, progress, stop)?;
    let trained = train(&mut session, &dir, progress, stop);
    if let Err(error) = trained {
        // A signal or runaway numbers leave the weights as the last finished step made them.
        if error.is::<Stopped>() || error.is::<Halted>() {
            session.checkpoint(&dir)?;
            progress.line(&format!(
                "step {} is checkpointed in {}; go on with --resume",
                session.step,
                dir.path.display()
            ));
        }
        return Err(error);
    }
    finish::write_final(&dir.path, &session.config, &session.folder, &session.learner)?;
    report::render(&dir.path, None)?;
    Ok(Outcome::Finished { out: dir.path, step: session.step })
}

fn train(session: &mut Session, dir: &RunDir, progress: &dyn Progress, stop: &Stop) -> Result<()> {
    let mut out = Outputs::open(session, dir)?;
    let steps = session.config.train.steps;
    session.prepare_validation(progress, stop)?;
    if session.step == 0 && session.samples_wanted() {
        out.sample(session, dir, progress, stop)?;
    }
    let mut forecast = Forecast::new(session.step);
    progress.begin("train", session.step, steps);
    while session.step < steps {
        let started = Instant::now();
        let outcome = session.take_step(stop)?;
        let seconds = started.elapsed().as_secs_f64();
        forecast.spent("train", seconds);
        let mut line = session.line(&outcome, seconds);
        progress.advance(session.step, &note(&line));
        if session.validates_now() {
            let began = Instant::now();
            line.extend(session.validate(outcome.beta, progress, stop)?);
            forecast.spent("validate", began.elapsed().as_secs_f64());
        }
        out.metrics(session, &line, progress)?;
        session.keep_best(dir, &line)?;
        if session.config.sample.every > 0 && session.step % session.config.sample.every == 0 {
            let began = Instant::now();
            out.sample(session, dir, progress, stop)?;
            forecast.spent("sample", began.elapsed().as_secs_f64());
        }
        if session.checkpoint_due() {
            let began = Instant::now();
            session.checkpoint(dir)?;
            forecast.spent("checkpoint", began.elapsed().as_secs_f64());
        }
        if let Some(text) = forecast.due(session) {
            progress.line(&text);
        }
        stop.check()?;
    }
    progress.end();
    Ok(())
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

    fn metrics(&mut self, session: &Session, line: &Map<String, Value>, progress: &dyn Progress) -> Result<()> {
        let json = Value::Object(line.clone()).to_string();
        self.metrics.line(&json)?;
        progress.metrics(&json);
        let Some(events) = &mut self.events else { return Ok(()) };
        if session.step % session.config.log.every == 0 || session.step == session.config.train.steps {
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
    fn line(&self, outcome: &StepOutcome, seconds: f64) -> Map<String, Value> {
        let train = &self.config.train;
        let mut line = Map::new();
        line.insert("step".into(), json!(self.step));
        metrics::put(
            &mut line,
            "epoch",
            Some((self.step * train.pairs_per_step()) as f64 / self.feed.train_len() as f64),
        );
        metrics::put(&mut line, "lr", Some(outcome.lr));
        outcome.records.write(&mut line, self.feed.total_timesteps());
        if self.learner.objective.needs().auto_beta {
            metrics::put(&mut line, "beta", Some(outcome.beta));
        }
        metrics::put(&mut line, "grad_norm", (!outcome.records.pairs.is_empty()).then_some(outcome.grad_norm));
        for (key, present) in [("spike", outcome.spike), ("skipped", outcome.skipped)] {
            if present {
                line.insert(key.into(), json!(true));
            }
        }
        metrics::put(&mut line, "pairs_per_s", Some(outcome.records.pairs.len() as f64 / seconds));
        metrics::put(&mut line, "s_per_step", Some(seconds));
        metrics::put(&mut line, "data_wait_s", Some(self.feed.waited()));
        metrics::put(&mut line, "peak_mem_gib", metrics::peak_mem_gib(self.learner.machine.device));
        line
    }

    fn keep_best(&mut self, dir: &RunDir, line: &Map<String, Value>) -> Result<()> {
        let Some(margin) = line.get("val_margin").and_then(Value::as_f64) else { return Ok(()) };
        if self.best.is_none_or(|(_, best)| margin > best) {
            finish::write_best(&dir.path, &self.learner)?;
            self.best = Some((self.step, margin));
        }
        Ok(())
    }

    fn checkpoint_due(&self) -> bool {
        let train = &self.config.train;
        let kept = train.keep_every.is_some_and(|k| self.step % k == 0);
        self.step % train.checkpoint_every == 0 || self.step == train.steps || kept
    }

    fn checkpoint(&mut self, dir: &RunDir) -> Result<()> {
        let state = State {
            step: self.step,
            beta: self.learner.beta.clone(),
            guard: self.learner.guard.clone(),
            unreadable: self.feed.unreadable(),
            start_errors: self.start_errors.clone(),
            best: self.best,
            files: Default::default(),
        };
        checkpoint::save(&dir.path, &self.learner, state)?;
        checkpoint::rotate(&dir.path, self.config.train.keep_last, self.config.train.keep_every)
    }

    fn validate(&self, beta: f64, progress: &dyn Progress, stop: &Stop) -> Result<Map<String, Value>> {
        let Some(start) = &self.start_errors else { return Ok(Map::new()) };
        let _ema = self.learner.ema.as_ref().map(|e| Swapped::new(&self.learner.policy.trainable, &e.weights));
        progress.begin("validate", 0, start.len() as u64);
        let values = validation::validate(&self.learner, &mut self.feed.validation(), start, beta, progress, stop);
        progress.end();
        values
    }

    fn sample(&self, dir: &RunDir, progress: &dyn Progress, stop: &Stop) -> Result<Vec<u8>> {
        samples::paint(&dir.path, self.step, &self.config, &self.folder, &self.learner, &self.feed, progress, stop)
    }
}
