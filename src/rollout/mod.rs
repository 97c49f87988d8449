//! The rollout machine of methods that sample while they train: an iteration samples trajectories with the policy, has
//! their pictures rated, keeps what training reads, and is then trained on, step by step (docs/methods.md, section 10).
//!
//! An iteration is a function of the policy's weights, its number and the seed: a signal amid it loses nothing but time.
//! Once it is sampled, a checkpoint holds what it kept, or names the files of the run folder that do.

mod asked;
mod batch;
mod candidates;
mod held_out;
mod iteration;
mod kept;
mod law;
mod lists;
mod pictures;
mod recorded;
mod report;
mod size;
mod trajectories;
mod units;

pub use batch::UnitBatch;

use crate::data::draws::Draws;
use crate::networks::{Machine, Networks};
use crate::objectives::Rollouts;
use crate::objectives::advantages::Advantages;
use crate::progress::{Halted, Progress, Stop, Stopped};
use crate::scorers::Rewards;
use crate::settings::{Config, ConfigError, RolloutConfig};
use anyhow::{Context, Result, bail};
use asked::Told;
use batch::Sampling;
use held_out::{HeldOut, Measured};
use kept::{Kept, KeptUnit, Store};
use law::{Law, advantages};
use pipelines::Conditioning;
use pipelines::families::ModelFolder;
use pipelines::schedulers::StochasticSampler;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use units::Grid;

/// The folder of a run where buffers on disk lie.
pub const FOLDER: &str = "rollouts";
const ITERATION: &str = "iteration-";
/// The buffer in a checkpoint.
pub const BUFFER: &str = "rollout.safetensors";

/// Where a run stands. Part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The iteration in hand, or the next one.
    pub iteration: u64,
    /// Updates of it, and how many of them are done; 0 updates: it is still to be sampled.
    pub updates: u64,
    pub done: u64,
    kept: Vec<Kept>,
    units: Vec<KeptUnit>,
    /// Of a method that compares rewards with earlier ones.
    advantages: Option<Advantages>,
    /// Network evaluations so far, a row each.
    pub evaluations: u64,
    /// Iterations just before this one that kept nothing.
    empty: u64,
    /// What the iteration just sampled says of itself, until the metrics line of its first step is written.
    #[serde(default)]
    report: Option<Map<String, Value>>,
    /// What held-out prompts were worth before anything was trained.
    #[serde(default)]
    pub start: Option<Measured>,
    /// SHA-256 of the buffer's files in the run folder, by their path in it; empty where the checkpoint holds the buffer.
    pub files: BTreeMap<String, String>,
}

impl State {
    /// Whether there is a buffer.
    pub fn is_sampled(&self) -> bool {
        self.updates > 0
    }
}

/// Embeddings of prompts that were encoded before training.
pub trait Prompts {
    /// One row per prompt.
    ///
    /// # Errors
    /// A prompt that was not encoded.
    fn conditioning(&self, prompts: &[&str]) -> Result<Conditioning>;
}

/// What rollouts are opened from.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub config: &'a Config,
    pub folder: &'a ModelFolder,
    /// Prompts to train on, each once; a prompt's place is its index in draws.
    pub prompts: &'a [String],
    /// Prompts of [validate].
    pub held_out: &'a [String],
    pub machine: Machine,
}

/// What sampling takes from the run around it.
#[derive(Clone, Copy)]
pub struct Resources<'a> {
    pub networks: &'a Networks,
    pub prompts: &'a dyn Prompts,
    pub folder: &'a ModelFolder,
    pub progress: &'a dyn Progress,
    pub stop: &'a Stop,
}

/// The rollouts of a run.
pub struct Rollout {
    needs: Rollouts,
    law: Law,
    config: RolloutConfig,
    draws: Draws,
    /// All of them; an iteration takes some.
    prompts: Vec<String>,
    held_out: HeldOut,
    rewards: Rewards,
    sampler: Box<dyn StochasticSampler>,
    /// The same steps without noise.
    ahead: Box<dyn StochasticSampler>,
    /// C, h, w
    shape: [i64; 3],
    /// Pixels
    resolution: i64,
    vae: Option<PathBuf>,
    run: PathBuf,
    per_step: u64,
    micro_batch: u64,
    pub state: State,
    store: Store,
    told: Option<Told>,
    /// The order of units in the pass that was asked for last.
    order: std::cell::RefCell<Option<(u64, u64, Vec<usize>)>>,
    /// Network evaluations of the update in hand.
    trained: std::cell::Cell<u64>,
}

impl Rollout {
    /// Opens scorers and sampler; nothing is sampled yet. `run`: the run folder.
    ///
    /// # Errors
    /// A scorer that cannot be opened, steps that the model does not have, a buffer that does not fit.
    pub fn open(setup: &Setup, needs: Rollouts, run: &Path) -> Result<Self> {
        let Setup { config, folder, prompts, held_out, machine } = *setup;
        let missing = |table: &str| ConfigError(format!("[{table}] is missing: the method samples while it trains."));
        let rollout = config.rollout.clone().ok_or_else(|| missing("rollout"))?;
        let reward = config.reward.as_ref().ok_or_else(|| missing("reward"))?;
        let process = folder.process();
        let stepping = |eta: f64| {
            let sampler = process.stochastic_sampler(rollout.steps, eta);
            sampler.map_err(|e| ConfigError(format!("rollout.steps = {}: {e}", rollout.steps)))
        };
        let (sampler, ahead) = (stepping(rollout.eta)?, stepping(0.0)?);
        let law = Law::of(needs.units, &rollout, &*sampler);
        let out = Self {
            law,
            needs,
            draws: Draws { seed: config.train.seed, draws_per_pair: 0, range: process.range() },
            prompts: prompts.to_vec(),
            held_out: HeldOut { prompts: held_out.to_vec(), draws: config.validate.draws.max(1) as usize },
            rewards: Rewards::open(reward, machine.frozen(), Some(folder))?,
            sampler,
            ahead,
            shape: folder.latent().shape(config.data.resolution, config.data.resolution),
            resolution: config.data.resolution,
            vae: config.model.vae.clone(),
            run: run.to_path_buf(),
            per_step: config.train.pairs_per_step(),
            micro_batch: config.train.micro_batch,
            state: State { advantages: advantages(needs.units), ..State::default() },
            store: Store::default(),
            told: None,
            order: Default::default(),
            trained: Default::default(),
            config: rollout,
        };
        out.refuse_without_steps()?;
        out.rewards.check(&out.prompts)?;
        out.rewards.check(&out.held_out.prompts)?;
        out.refuse_too_large()?;
        Ok(out)
    }

    /// Network evaluations of a guided prediction of one row.
    fn per_prediction(&self) -> u64 {
        if self.config.guidance_scale == 1.0 { 1 } else { 2 }
    }

    pub fn grid(&self) -> Grid {
        Grid { prompts: self.config.prompts_per_iteration, per_prompt: self.config.trajectories }
    }

    fn sampling(&self) -> Result<Sampling<'_>> {
        let told = self.told.as_ref().context("an iteration was read before its prompts were encoded")?;
        Ok(Sampling { sampler: &*self.sampler, guidance_scale: self.config.guidance_scale, told })
    }

    /// Makes sure that there is an iteration to train on: samples the next one where the last is done.
    ///
    /// # Errors
    /// `Stopped`, with nothing changed; [`Halted`], with the weights as they were: what networks, scorers or the disk refuse,
    /// numbers that are not finite, too many iterations that keep nothing.
    pub fn prepare(&mut self, run: &Resources) -> Result<()> {
        const EMPTY_AT_MOST: u64 = 20;
        while !self.state.is_sampled() {
            if self.state.empty == EMPTY_AT_MOST {
                bail!(Halted::before_update(format!(
                    "{EMPTY_AT_MOST} iterations in a row kept nothing to train on: {}",
                    self.why_nothing_is_kept()
                )));
            }
            let iteration = self.state.iteration;
            let sampled = self.sample_iteration(run);
            sampled.map_err(|error| nothing_learnt(iteration, error))?;
        }
        if self.told.is_none() {
            self.told = Some(self.tell(run)?);
        }
        Ok(())
    }

    /// The micro-batches of the update in hand.
    pub fn micro_batches(&self) -> impl Iterator<Item = Result<Option<UnitBatch<'_>>>> + '_ {
        self.trained.set(0);
        let first = self.state.done * self.per_step;
        let batches = self.per_step / self.micro_batch;
        (0..batches).map(move |i| {
            let start = first + i * self.micro_batch;
            let units = self.units_at(start..start + self.micro_batch)?;
            if units.is_empty() {
                return Ok(None);
            }
            let batch = UnitBatch::new(&units, &self.state.kept, &self.store, self.sampling()?)?;
            self.trained.set(self.trained.get() + batch.calls.len() as u64 * self.per_prediction());
            Ok(Some(batch))
        })
    }

    /// Units at positions of the iteration. Without `updates_per_iteration` there is one pass, whose last step may be short.
    fn units_at(&self, positions: std::ops::Range<u64>) -> Result<Vec<&KeptUnit>> {
        let n = self.state.units.len() as u64;
        let endless = self.config.updates_per_iteration.is_some();
        let mut units = Vec::new();
        for position in positions.filter(|position| endless || *position < n) {
            units.push(&self.state.units[self.unit_at(position / n, (position % n) as usize)?]);
        }
        Ok(units)
    }

    /// Which unit stands at a place of a pass: groups in an order of their own, and units of a group one after the other.
    fn unit_at(&self, pass: u64, place: usize) -> Result<usize> {
        if matches!(self.law, Law::Lists(_)) {
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
        for group in self.draws.choose(iteration, "groups", &[pass as usize]).randperm(groups.len() as i64)? {
            let units = &groups[group as usize];
            let mut within = self.draws.choose(iteration, "units", &[pass as usize, group as usize]);
            drawn.extend(within.randperm(units.len() as i64)?.into_iter().map(|i| units[i as usize]));
        }
        let found = drawn[place];
        *order = Some((iteration, pass, drawn));
        Ok(found)
    }

    /// An update was done: after the last one the iteration is over.
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

    /// Iterations completed, with the part of the one in hand.
    pub fn epoch(&self) -> f64 {
        let part = self.state.done as f64 / self.state.updates.max(1) as f64;
        self.state.iteration as f64 + part
    }

    /// What the iteration just sampled says of itself; once.
    pub fn take_report(&mut self) -> Map<String, Value> {
        self.state.report.take().unwrap_or_default()
    }

    /// Writes a buffer in memory into a checkpoint's folder.
    pub fn save(&self, checkpoint: &Path) -> Result<()> {
        match self.state.is_sampled() && !self.store.on_disk() {
            true => self.store.save(&checkpoint.join(BUFFER)),
            false => Ok(()),
        }
    }

    /// Takes over what a checkpoint holds.
    pub fn load(&mut self, checkpoint: &Path, state: State) -> Result<()> {
        self.state = state;
        if !self.state.is_sampled() {
            return Ok(());
        }
        let file = checkpoint.join(BUFFER);
        self.store = match self.state.files.is_empty() {
            true => Store::load(&file)?,
            false => Store::reopen(self.folder_of(self.state.iteration), &self.run, self.state.files.keys())?,
        };
        Ok(())
    }

    /// Removes buffers on disk that neither the iteration in hand nor a checkpoint names. `checkpointed`: paths in the run
    /// folder that checkpoints name.
    pub fn remove_old(&self, checkpointed: Vec<String>) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.run.join(FOLDER)) else { return Ok(()) };
        let named: BTreeSet<PathBuf> = checkpointed
            .into_iter()
            .chain(self.state.files.keys().cloned())
            .filter_map(|file| Some(self.run.join(file).parent()?.to_path_buf()))
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

    fn folder_of(&self, iteration: u64) -> PathBuf {
        self.run.join(folder_name(iteration))
    }
}

/// `rollouts/iteration-000012`
fn folder_name(iteration: u64) -> String {
    format!("{FOLDER}/{ITERATION}{iteration:06}")
}

/// What goes wrong while sampling leaves the weights as the last step made them.
fn nothing_learnt(iteration: u64, error: anyhow::Error) -> anyhow::Error {
    if error.is::<Stopped>() || error.is::<Halted>() {
        return error;
    }
    Halted::before_update(format!("iteration {iteration} was not sampled: {error:#}; the weights were not changed"))
        .into()
}
