//! State of a running run: configuration, model, data, and the learner at its step.

use super::build;
use super::checkpoint::{self, Pending};
use super::environment::{self, Contents, DataHash};
use super::feed::Feed;
use super::host::Host;
use super::learner::{Learner, MicroBatch, StepOutcome};
use super::ledger::RunLedger;
use super::opened::{Opened, samples_wanted};
use super::resident::Resident;
use super::run_dir::Start;
use super::validation::{self, StartErrors};
use crate::networks::{Machine, Networks};
use crate::optimizer::{self, learning_rate};
use crate::rollout::{Resources, Rollout};
use crate::run_folder::RunDir;
use crate::settings::Settings;
use crate::settings::tables::validate::ValidateConfig;
use crate::world::settle;
use anyhow::{Result, bail};
use pipelines::families::ModelFolder;

/// A run in progress.
pub struct Session {
    pub config: Settings,
    pub folder: ModelFolder,
    pub feed: Feed,
    pub learner: Learner,
    /// State of methods that sample while they train.
    pub rollout: Option<Rollout>,
    /// Stored errors of the reference.
    pub ledger: Option<RunLedger>,
    /// The last finished step.
    pub step: u64,
    pub start_errors: Option<StartErrors>,
    pub best: Option<(u64, f64)>,
    /// The gradient factor of held-out pairs that ended the run before its last step.
    pub spent: Option<f64>,
    /// Pending work after the last finished step.
    pub pending: Pending,
    /// The step whose current state is on disk.
    pub saved: Option<u64>,
}

impl Session {
    /// Encodes missing records, loads the networks, and restores a checkpoint. `contents`: hashes of the inputs.
    ///
    /// # Errors
    /// `Stopped`; errors of model, data or checkpoint.
    pub fn start(
        resident: &mut Resident,
        opened: Opened,
        contents: &Contents,
        dir: &RunDir,
        start: Start,
        host: &Host,
    ) -> Result<Self> {
        let Host { progress, stop, .. } = *host;
        let then = environment::recorded(&dir.path).data;
        environment::write(&dir.path, &opened, contents, then.as_ref())?;
        let machine = Machine::of(&opened.config)?;
        let config = &opened.config;
        let mut feed = Feed::open(&opened, machine, &dir.path, progress, stop)?;
        if let (Start::At(..), Some(then)) = (&start, &then) {
            refuse_other_images(&feed, config, then)?;
        }
        let data = feed.data_hash(config, config.train.steps, config.validates_every() > 0)?;
        environment::write(&dir.path, &opened, contents, Some(&data))?;
        let done = match &start {
            Start::At(_, state) => state.step,
            Start::Fresh => 0,
        };
        let ledger = RunLedger::open(&opened, contents, machine, dir, done > 0);
        if let Some(ledger) = &ledger {
            ledger.announce(progress);
        }
        let filled = ledger.as_ref().filter(|_| opened.ledger_first);
        if let Some(ledger) = filled.filter(|_| config.lora.is_none()) {
            ledger.fill_alone(&opened, machine, &feed, done, host)?;
        }
        let mut learner = build::learner(resident, &opened, contents, machine, &feed, ledger.as_ref())?;
        if let Some(ledger) = filled.filter(|_| config.lora.is_some()) {
            ledger.fill(config, learner.networks(), &feed, done, host)?;
        }
        let mut rollout = match config.method.needs.rollouts {
            Some(needs) => {
                let setup = opened.setup(machine);
                let rewards = resident.rewards(&setup, contents)?;
                rewards.notes(setup.prompts)?.iter().for_each(|note| progress.line(note));
                Some(Rollout::open(&setup, needs, rewards, &dir.path)?)
            }
            None => None,
        };
        let (mut step, mut saved, mut start_errors, mut best, mut spent) = (0, None, None, None, None);
        let mut pending = Pending { samples: samples_wanted(config), ..Pending::default() };
        if let Start::At(path, state) = start {
            checkpoint::load(&path, &state, &mut learner)?;
            if let (Some(rollout), Some(then)) = (&mut rollout, state.rollout) {
                rollout.load(&path, then)?;
            }
            feed.left_out(state.unreadable);
            (step, saved, start_errors, best) = (state.step, Some(state.step), state.start_errors, state.best);
            spent = state.spent.filter(|factor| is_spent(config, *factor));
            pending = state.pending;
            pending.samples &= samples_wanted(config);
        }
        let Opened { config, folder, .. } = opened;
        Ok(Self { config, folder, feed, learner, rollout, ledger, step, start_errors, best, spent, pending, saved })
    }

    /// Samples the input of the next step, for a method that samples with no units left.
    pub fn roll_out(&mut self, host: &Host) -> Result<()> {
        let Some(rollout) = &mut self.rollout else { return Ok(()) };
        let resources = resources(self.learner.networks(), &self.feed, &self.folder, host);
        settle(host.world, rollout.prepare(&resources))
    }

    /// Runs the next step; counts it on success.
    pub fn take_step(&mut self, host: &Host) -> Result<StepOutcome> {
        let s = self.step + 1;
        let lr = learning_rate(&self.config.optim, self.config.train.steps, self.config.train.pairs_per_step(), s);
        let (feed, rollout) = (&self.feed, &self.rollout);
        let share = host.world.share(self.config.train.grad_accum);
        let outcome = self.learner.step(
            s,
            lr,
            &|| match rollout {
                Some(rollout) => {
                    Box::new(rollout.micro_batches(share.clone()).map(|batch| Ok(batch?.map(MicroBatch::Units))))
                }
                None => Box::new(feed.micro_batches(s, share.clone()).map(|batch| Ok(batch?.map(MicroBatch::Items)))),
            },
            host.world,
            host.stop,
        )?;
        self.step = s;
        if let Some(ledger) = &self.ledger {
            ledger.after_step(host.progress);
        }
        if let Some(rollout) = &mut self.rollout {
            rollout.updated();
        }
        Ok(outcome)
    }

    /// Whether the last finished step is the last one of the run.
    pub fn ended(&self) -> bool {
        self.step >= self.config.train.steps || self.spent.is_some()
    }

    /// Whether the grid of the last step is due.
    pub fn samples_due(&self) -> bool {
        samples_wanted(&self.config) && self.step.is_multiple_of(self.config.sample.every)
    }

    pub fn validates_now(&self) -> bool {
        let every = self.config.validates_every();
        let measured = self.start_errors.is_some() || self.rollout.as_ref().is_some_and(|r| r.state.start.is_some());
        measured && every > 0 && (self.step.is_multiple_of(every) || self.step == self.config.train.steps)
    }

    /// Measures the start model on held-out data, once, before training.
    pub fn prepare_validation(&mut self, host: &Host) -> Result<()> {
        let Host { world, progress, stop } = *host;
        if self.config.validates_every() == 0 || self.start_errors.is_some() {
            return Ok(());
        }
        if let Some(rollout) = &mut self.rollout {
            if !rollout.holds_out() || rollout.state.start.is_some() {
                return Ok(());
            }
            if self.step > 0 {
                progress.line("validation stays off: the start model was not measured before step 1");
                return Ok(());
            }
            let resources = resources(self.learner.networks(), &self.feed, &self.folder, host);
            return settle(host.world, rollout.measure_start(&resources));
        }
        if self.feed.validation_len() == 0 {
            progress.line("no pair is held out: validation is off (validate.fraction chose none of the prompts)");
            return Ok(());
        }
        if self.step > 0 && self.learner.networks().start.is_none() {
            progress.line(
                "validation stays off: the start model was not measured before step 1 and is no longer available",
            );
            return Ok(());
        }
        progress.begin("validate", 0, self.feed.validation_len() as u64);
        let errors = validation::start_errors(self.learner.networks(), &mut self.feed.validation(), stop);
        progress.end();
        self.start_errors = Some(settle(world, errors)?);
        Ok(())
    }

    /// Estimated size of a checkpoint on disk.
    pub fn checkpoint_bytes(&self) -> u64 {
        let copies = if self.learner.average().is_some() { 2 } else { 1 };
        let bytes = |t: &tch::Tensor| t.numel() as u64 * t.kind().elt_size_in_bytes() as u64;
        let trainable = &self.learner.networks().policy.trainable;
        let state = optimizer::state_bytes(trainable, &self.config.optim);
        copies * trainable.iter().map(|(_, t)| bytes(t)).sum::<u64>() + state
    }
}

/// Whether held-out pairs of this gradient factor end the run.
pub fn is_spent(config: &Settings, factor: f64) -> bool {
    config.validate.as_ref().and_then(ValidateConfig::stop_at).is_some_and(|least| factor < least)
}

/// A resumed run must read the images of its start, wherever they are now.
fn refuse_other_images(feed: &Feed, config: &Settings, then: &DataHash) -> Result<()> {
    if feed.data_hash(config, then.steps, then.validated)? != *then {
        bail!(
            "{}: cannot resume: images of data.path = \"{}\" have changed since the run began. Restore them, or start another run.",
            config.train.out.display(),
            config.data.items.as_ref().map_or(std::path::Path::new(""), |items| &items.path).display()
        );
    }
    Ok(())
}

/// The run's objects that sampling uses.
pub fn resources<'a>(
    networks: &'a Networks,
    feed: &'a Feed,
    folder: &'a ModelFolder,
    host: &Host<'a>,
) -> Resources<'a> {
    Resources { networks, prompts: feed, folder, progress: host.progress, stop: host.stop }
}
