//! Output of a run while it trains: on rank 0 alone.

use super::checkpoint::{self, State};
use super::finish;
use super::forecast::Forecast;
use super::host::Host;
use super::opened::samples_wanted;
use super::samples;
use super::session::{Session, is_spent, resources};
use super::tensorboard::EventWriter;
use super::validation;
use crate::data::items::ItemKind;
use crate::metrics::{Line, REWARD};
use crate::objectives::Step;
use crate::progress::Progress;
use crate::run_folder::{MetricsFile, RunDir};
use crate::world::settle;
use anyhow::Result;

/// The files that a run appends to; none on other ranks.
pub struct Outputs {
    metrics: Option<MetricsFile>,
    events: Option<EventWriter>,
}

impl Outputs {
    pub fn open(session: &Session, dir: &RunDir) -> Result<Self> {
        let events = match session.config.log.tensorboard && dir.writes() {
            true => Some(EventWriter::create(&dir.path, session.step)?),
            false => None,
        };
        let metrics = if dir.writes() { Some(MetricsFile::open(dir)?) } else { None };
        Ok(Self { metrics, events })
    }

    /// Validates, writes the metrics line, keeps the best weights, paints and checkpoints, as far as due after the
    /// last finished step. A signal in between leaves the rest pending for the resumed run.
    pub fn after_step(
        &mut self,
        session: &mut Session,
        dir: &RunDir,
        forecast: &mut Forecast,
        host: &Host,
    ) -> Result<()> {
        if let Some(mut line) = session.pending.line.clone() {
            if session.validates_now() {
                forecast.timed("validate", || session.validate(&mut line, host))?;
            }
            self.metrics(session, &line, host.progress)?;
            (session.pending.line, session.saved) = (None, None);
            session.keep_best(dir, &line)?;
            session.end_if_spent(&line, host.progress);
        }
        if session.pending.samples {
            forecast.timed("sample", || settle(host.world, self.sample(session, dir, host)))?;
            (session.pending.samples, session.saved) = (false, None);
        }
        if session.checkpoint_due() {
            forecast.timed("checkpoint", || settle(host.world, self.checkpoint(session, dir, host.progress)))?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, session: &mut Session, dir: &RunDir, progress: &dyn Progress) -> Result<()> {
        // A checkpoint must not outlive the lines before it.
        self.metrics.as_ref().map_or(Ok(()), MetricsFile::sync)?;
        session.checkpoint(dir)?;
        if let Some(ledger) = &session.ledger {
            ledger.flush(progress);
        }
        match session.rollout {
            // A hacked reward must be visible while it happens.
            Some(_) => dir.render(),
            None => Ok(()),
        }
    }

    fn metrics(&mut self, session: &Session, line: &Line, progress: &dyn Progress) -> Result<()> {
        let Some(metrics) = &mut self.metrics else { return Ok(()) };
        let json = line.to_json()?;
        metrics.line(&json)?;
        progress.metrics(&json);
        let Some(events) = &mut self.events else { return Ok(()) };
        if session.step.is_multiple_of(session.config.log.every) || session.step == session.config.train.steps {
            for (key, value) in line.numbers()? {
                if let Some(x) = value.as_f64() {
                    events.scalar(&key, session.step, x)?;
                }
            }
            events.flush()?;
        }
        Ok(())
    }

    fn sample(&mut self, session: &Session, dir: &RunDir, host: &Host) -> Result<()> {
        if !dir.writes() {
            return Ok(());
        }
        let png = session.sample(dir, host)?;
        if let Some(events) = &mut self.events {
            events.image("samples", session.step, &png)?;
            events.flush()?;
        }
        Ok(())
    }
}

impl Session {
    fn keep_best(&mut self, dir: &RunDir, line: &Line) -> Result<()> {
        // Labelled images have no margin: the criterion is their loss.
        let worth = match (&self.rollout, self.learner.criterion().needs.items) {
            (Some(_), _) => line.named.held_out(REWARD),
            (None, ItemKind::Labels) => line.val_loss.map(|loss| -loss),
            (None, ItemKind::Pairs | ItemKind::Lists) => line.val_margin,
        };
        let Some(worth) = worth.filter(|worth| worth.is_finite()) else { return Ok(()) };
        if self.best.is_none_or(|(_, best)| worth > best) {
            dir.write(|| finish::write_best(&dir.path, &self.learner))?;
            self.best = Some((self.step, worth));
        }
        Ok(())
    }

    /// Ends the run when the held-out pairs hardly teach any more: from there on DPO mostly raises the losers' error.
    fn end_if_spent(&mut self, line: &Line, progress: &dyn Progress) {
        let Some(factor) = line.val_gradient_factor.filter(|factor| is_spent(&self.config, *factor)) else { return };
        if self.ended() {
            return;
        }
        self.spent = Some(factor);
        self.pending.samples = samples_wanted(&self.config);
        progress.line(&format!(
            "step {}: val_gradient_factor = {factor:.3} is below validate.stop_at_gradient_factor: the run ends here",
            self.step
        ));
    }

    fn checkpoint_due(&self) -> bool {
        let train = &self.config.train;
        let kept = train.keep_every.is_some_and(|k| self.step.is_multiple_of(k));
        self.step > 0 && (self.step.is_multiple_of(train.checkpoint_every) || self.ended() || kept)
    }

    /// Writes the state of the last finished step, unless it is on disk already.
    pub fn checkpoint(&mut self, dir: &RunDir) -> Result<()> {
        if !dir.writes() || self.saved == Some(self.step) {
            return Ok(());
        }
        let state = State {
            step: self.step,
            history: self.learner.history().clone(),
            reference: self.learner.networks().moved.as_ref().map(|m| m.state.clone()),
            rollout: self.rollout.as_ref().map(|rollout| rollout.state.clone()),
            unreadable: self.feed.unreadable(),
            start_errors: self.start_errors.clone(),
            best: self.best,
            spent: self.spent,
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

    /// Adds the numbers of held-out data to the line of the last step.
    fn validate(&self, line: &mut Line, host: &Host) -> Result<()> {
        settle(host.world, self.validated(line, host))
    }

    fn validated(&self, line: &mut Line, host: &Host) -> Result<()> {
        let Host { progress, stop, .. } = *host;
        let _average = self.learner.averaged();
        if let Some(rollout) = &self.rollout {
            line.named.extend(rollout.validate(&resources(self.learner.networks(), &self.feed, &self.folder, host))?);
            return Ok(());
        }
        let Some(start) = &self.start_errors else { return Ok(()) };
        progress.begin("validate", 0, start.len() as u64);
        let (number, steps) = (self.step, self.learner.limits().steps);
        let step = Step { beta: self.pending.beta, number, steps, statistic: 0.0 };
        let (pass, statistics) = (self.learner.pass(), &self.learner.history().statistics);
        let held_out =
            validation::validate(&pass, statistics, &mut self.feed.validation(), start, step, progress, stop);
        progress.end();
        held_out?.write(line);
        Ok(())
    }

    fn sample(&self, dir: &RunDir, host: &Host) -> Result<Vec<u8>> {
        let _average = self.learner.averaged();
        let (config, networks) = (&self.config, self.learner.networks());
        let resources = resources(networks, &self.feed, &self.folder, host);
        samples::paint(&dir.path, self.step, config, &resources, self.feed.empty_side())
    }
}
