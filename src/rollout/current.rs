//! The rollouts of a run: the current iteration, and its progress in training.

use super::asked::Told;
use super::batch::UnitBatch;
use super::course::Course;
use super::iteration::Sampled;
use super::kept::{KeptUnit, Store};
use super::report::SampledMetrics;
use super::resources::{Resources, Setup};
use super::state::{BUFFER, FOLDER, ITERATION, State};
use crate::metrics::Named;
use crate::objectives::Rollouts;
use crate::progress::{Halted, Stopped};
use crate::scorers::Rewards;
use anyhow::{Context, Result, bail};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The rollouts of a run.
pub struct Rollout {
    course: Course,
    pub state: State,
    store: Store,
    told: Option<Told>,
    /// Order of units in the last requested pass.
    order: RefCell<Option<(u64, u64, Vec<usize>)>>,
    /// Network evaluations of the current update.
    trained: Cell<u64>,
}

impl Rollout {
    /// Opens sampler and units; nothing is sampled yet. `run`: the run folder.
    ///
    /// # Errors
    /// Steps that the model lacks, prompts that a scorer refuses, a buffer that does not fit.
    pub fn open(setup: &Setup, needs: Rollouts, rewards: Rc<Rewards>, run: &Path) -> Result<Self> {
        let course = Course::open(setup, needs, rewards, run)?;
        Ok(Self {
            state: State { advantages: course.maker.advantages(), ..State::default() },
            course,
            store: Store::default(),
            told: None,
            order: RefCell::default(),
            trained: Cell::default(),
        })
    }

    /// Sampling.
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// Ensures an iteration to train on: samples the next one after the last update.
    ///
    /// # Errors
    /// `Stopped`, with nothing changed; [`Halted`], with the weights unchanged: errors of networks, scorers or the
    /// disk, numbers that are not finite, too many iterations without kept units.
    pub fn prepare(&mut self, run: &Resources) -> Result<()> {
        const EMPTY_AT_MOST: u64 = 20;
        while !self.state.is_sampled() {
            if self.state.empty == EMPTY_AT_MOST {
                bail!(Halted::before_update(format!(
                    "{EMPTY_AT_MOST} iterations in a row kept nothing to train on: {}",
                    self.course.maker.why_empty()
                )));
            }
            let State { iteration, advantages, empty, .. } = &self.state;
            let sampled = self.course.sample(run, *iteration, advantages, *empty);
            let sampled = sampled.map_err(|error| nothing_learnt(*iteration, error))?;
            self.adopt(sampled);
        }
        if self.told.is_none() {
            let chosen = self.course.chosen(self.state.iteration)?;
            self.told = Some(self.course.tell(&chosen, run)?);
        }
        Ok(())
    }

    /// Adopts a sampled iteration; one without kept units is skipped.
    fn adopt(&mut self, sampled: Sampled) {
        let Sampled { kept, store, units, told, advantages, report, files, evaluations } = sampled;
        self.state.advantages = advantages;
        self.state.evaluations += evaluations;
        self.state.report = Some(report);
        if units.is_empty() {
            self.state.iteration += 1;
            self.state.empty += 1;
            return;
        }
        let one_pass = (units.len() as u64).div_ceil(self.course.per_step);
        self.state.updates = self.course.config.updates_per_iteration.unwrap_or(one_pass);
        self.state.files = files;
        (self.state.kept, self.state.units) = (kept, units);
        (self.store, self.told) = (store, Some(told));
    }

    /// Whether there are held-out prompts.
    pub fn holds_out(&self) -> bool {
        !self.course.held_out.prompts.is_empty()
    }

    /// Measures the model before training.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn measure_start(&mut self, run: &Resources) -> Result<()> {
        self.state.start = Some(self.course.measure(run)?);
        Ok(())
    }

    /// The metrics of a validated step; none without a measured start.
    ///
    /// # Errors
    /// `Stopped`; errors of networks or scorers.
    pub fn validate(&self, run: &Resources) -> Result<Named> {
        let Some(start) = &self.state.start else { return Ok(Named::default()) };
        Ok(self.course.measure(run)?.against(start))
    }

    /// The micro-batches of the current update that are in `share`, by their number in the update.
    pub fn micro_batches(&self, share: Range<u64>) -> impl Iterator<Item = Result<Option<UnitBatch<'_>>>> + '_ {
        self.trained.set(0);
        let first = self.state.done * self.course.per_step;
        share.map(move |i| {
            let start = first + i * self.course.micro_batch;
            let units = self.units_at(start..start + self.course.micro_batch)?;
            if units.is_empty() {
                return Ok(None);
            }
            let told = self.told.as_ref().context("an iteration was read before its prompts were encoded")?;
            let batch = UnitBatch::new(&units, &self.state.kept, &self.store, self.course.guided(told))?;
            self.trained.set(self.trained.get() + batch.calls.len() as u64 * self.course.per_prediction());
            Ok(Some(batch))
        })
    }

    /// Units at positions of the iteration. Without `updates_per_iteration` there is one pass, whose last step may be
    /// short.
    fn units_at(&self, positions: Range<u64>) -> Result<Vec<&KeptUnit>> {
        let n = self.state.units.len() as u64;
        let endless = self.course.config.updates_per_iteration.is_some();
        let mut units = Vec::new();
        for position in positions.filter(|position| endless || *position < n) {
            units.push(&self.state.units[self.unit_at(position / n, (position % n) as usize)?]);
        }
        Ok(units)
    }

    /// The unit at a place of a pass: groups in random order, and units of a group in succession.
    fn unit_at(&self, pass: u64, place: usize) -> Result<usize> {
        if self.course.maker.is_ordered() {
            return Ok(place); // drawn in order
        }
        let iteration = self.state.iteration;
        let mut order = self.order.borrow_mut();
        if let Some((_, _, order)) = order.as_ref().filter(|(i, p, _)| (*i, *p) == (iteration, pass)) {
            return Ok(order[place]);
        }
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, unit) in self.state.units.iter().enumerate() {
            groups.entry(unit.group).or_default().push(i);
        }
        let groups: Vec<Vec<usize>> = groups.into_values().collect();
        let mut drawn = Vec::new();
        for group in self.course.draws.choose(iteration, "groups", &[pass as usize]).randperm(groups.len() as i64)? {
            let units = &groups[group as usize];
            let mut within = self.course.draws.choose(iteration, "units", &[pass as usize, group as usize]);
            drawn.extend(within.randperm(units.len() as i64)?.into_iter().map(|i| units[i as usize]));
        }
        let found = drawn[place];
        *order = Some((iteration, pass, drawn));
        Ok(found)
    }

    /// Counts an update; the last one ends the iteration.
    pub fn updated(&mut self) {
        self.state.done += 1;
        self.state.evaluations += self.trained.take();
        if self.state.done == self.state.updates {
            self.state = State {
                iteration: self.state.iteration + 1,
                advantages: self.state.advantages.take(),
                evaluations: self.state.evaluations,
                report: self.state.report.take(),
                start: self.state.start.take(),
                ..State::default()
            };
            (self.store, self.told) = (Store::default(), None);
        }
    }

    /// Iterations completed, including the fraction of the current one.
    pub fn epoch(&self) -> f64 {
        let part = self.state.done as f64 / self.state.updates.max(1) as f64;
        self.state.iteration as f64 + part
    }

    /// Metrics of the last sampled iteration, returned once.
    pub fn take_report(&mut self) -> Option<SampledMetrics> {
        self.state.report.take()
    }

    /// Writes a buffer in memory into a checkpoint's folder.
    pub fn save(&self, checkpoint: &Path) -> Result<()> {
        match self.state.is_sampled() && !self.store.on_disk() {
            true => self.store.save(&checkpoint.join(BUFFER)),
            false => Ok(()),
        }
    }

    /// Restores the state of a checkpoint.
    pub fn load(&mut self, checkpoint: &Path, state: State) -> Result<()> {
        self.state = state;
        if !self.state.is_sampled() {
            return Ok(());
        }
        let file = checkpoint.join(BUFFER);
        self.store = match self.state.files.is_empty() {
            true => Store::load(&file)?,
            false => {
                Store::reopen(self.course.folder_of(self.state.iteration), &self.course.run, self.state.files.keys())?
            }
        };
        Ok(())
    }

    /// Removes buffers on disk that neither the current iteration nor a checkpoint names. `checkpointed`: paths in
    /// the run folder named by checkpoints.
    pub fn remove_old(&self, checkpointed: Vec<String>) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.course.run.join(FOLDER)) else { return Ok(()) };
        let named: BTreeSet<PathBuf> = checkpointed
            .into_iter()
            .chain(self.state.files.keys().cloned())
            .filter_map(|file| Some(self.course.run.join(file).parent()?.to_path_buf()))
            .collect();
        let ours = |path: &PathBuf| {
            path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ITERATION))
        };
        let folders = entries.flatten().map(|entry| entry.path()).filter(ours);
        for folder in folders.filter(|folder| !named.contains(folder)) {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(())
    }
}

/// An error while sampling leaves the weights of the last step.
fn nothing_learnt(iteration: u64, error: anyhow::Error) -> anyhow::Error {
    if error.is::<Stopped>() || error.is::<Halted>() {
        return error;
    }
    Halted::before_update(format!("iteration {iteration} was not sampled: {error:#}; the weights were not changed"))
        .into()
}
