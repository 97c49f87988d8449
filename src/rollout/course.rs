//! Sampling of a run's rollouts: the part that is constant from the first iteration to the last.

use super::asked::{Guided, Told};
use super::grid::Grid;
use super::held_out::HeldOut;
use super::maker::{Counts, Iteration, UnitMaker};
use super::makers;
use super::recorded::Rule;
use super::resources::{Resources, Setup};
use crate::data::draws::Draws;
use crate::keys::ConfigError;
use crate::machine::bytes::in_words;
use crate::machine::disk::check_space;
use crate::machine::memory;
use crate::objectives::Rollouts;
use crate::scorers::Rewards;
use crate::settings::{Buffer, Trajectories};
use anyhow::{Result, bail};
use pipelines::schedulers::StochasticSampler;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tch::Device;

/// Prompts, sampler, scorers and units of a run.
pub struct Course {
    pub needs: Rollouts,
    pub maker: Box<dyn UnitMaker>,
    pub config: Trajectories,
    pub prompts_per_iteration: usize,
    pub draws: Draws,
    /// All prompts; an iteration uses some.
    pub prompts: Vec<String>,
    pub held_out: HeldOut,
    pub rewards: Rc<Rewards>,
    pub sampler: Box<dyn StochasticSampler>,
    /// The sampler with eta 0.
    pub ahead: Box<dyn StochasticSampler>,
    /// C, h, w
    pub shape: [i64; 3],
    /// Pixels
    pub resolution: i64,
    pub vae: Option<PathBuf>,
    /// The run folder.
    pub run: PathBuf,
    /// Units per update, and per micro-batch.
    pub per_step: u64,
    pub micro_batch: u64,
}

impl Course {
    /// Opens scorers and sampler; nothing is sampled yet. `run`: the run folder.
    ///
    /// # Errors
    /// A scorer that cannot be opened, steps that the model lacks, a buffer that does not fit.
    pub fn open(setup: &Setup, needs: Rollouts, rewards: Rc<Rewards>, run: &Path) -> Result<Self> {
        let Setup { config, folder, prompts, held_out, .. } = *setup;
        let missing = |table: &str| ConfigError(format!("[{table}] is missing: the method samples while it trains."));
        let table = config.rollout.as_ref().ok_or_else(|| missing("rollout"))?;
        let rollout = table.sampled.clone().ok_or_else(|| missing("rollout"))?;
        let process = folder.process();
        let stepping = |eta: f64| {
            let sampler = process.stochastic_sampler(rollout.steps, eta);
            sampler.map_err(|e| ConfigError(format!("rollout.steps = {}: {e}", rollout.steps)))
        };
        let (sampler, ahead) = (stepping(rollout.eta)?, stepping(0.0)?);
        let maker = makers::open(needs.units, table.prompts_per_iteration, &rollout, sampler.noisy_calls());
        let out = Self {
            maker,
            needs,
            draws: Draws { seed: config.train.seed, draws_per_pair: 0, range: process.range() },
            prompts: prompts.to_vec(),
            held_out: HeldOut {
                prompts: held_out.to_vec(),
                draws: config.validate.as_ref().map_or(1, |validate| validate.draws) as usize,
            },
            rewards,
            sampler,
            ahead,
            shape: folder.latent().shape(config.data.resolution, config.data.resolution),
            resolution: config.data.resolution,
            vae: config.model.vae.clone(),
            run: run.to_path_buf(),
            per_step: config.train.pairs_per_step(),
            micro_batch: config.train.micro_batch,
            prompts_per_iteration: table.prompts_per_iteration,
            config: rollout,
        };
        out.refuse_without_steps()?;
        out.rewards.check(&out.prompts)?;
        out.rewards.check(&out.held_out.prompts)?;
        out.refuse_too_large()?;
        Ok(out)
    }

    /// Network evaluations of a guided prediction of one row.
    pub fn per_prediction(&self) -> u64 {
        if self.config.guidance_scale == 1.0 { 1 } else { 2 }
    }

    /// Trajectories of an iteration.
    pub fn grid(&self) -> Grid {
        Grid { prompts: self.prompts_per_iteration, per_prompt: self.config.trajectories }
    }

    /// Iteration `number` of the prompts `chosen`.
    pub fn iteration<'a>(&self, number: u64, chosen: &'a [usize]) -> Iteration<'a> {
        Iteration { number, draws: self.draws, grid: self.grid(), prompts: chosen, read: self.read() as usize }
    }

    /// Units that the updates of an iteration read, if their number is set.
    fn read(&self) -> u64 {
        self.config.updates_per_iteration.unwrap_or(1).saturating_mul(self.per_step)
    }

    /// Indices of the prompts of an iteration: passes over the file, each with its own order, without the remainder
    /// of a pass.
    pub fn chosen(&self, iteration: u64) -> Result<Vec<usize>> {
        let (n, per_iteration) = (self.prompts.len(), self.prompts_per_iteration);
        let in_pass = (n / per_iteration).max(1) as u64;
        let order = self.draws.choose(iteration / in_pass, "prompts", &[]).randperm(n as i64)?;
        let first = (iteration % in_pass) as usize * per_iteration;
        Ok(order[first..first + per_iteration].iter().map(|i| *i as usize).collect())
    }

    pub fn texts(&self, chosen: &[usize]) -> Vec<String> {
        chosen.iter().map(|prompt| self.prompts[*prompt].clone()).collect()
    }

    /// Embeddings of prompts, by their indices in the file.
    pub fn tell(&self, chosen: &[usize], run: &Resources) -> Result<Told> {
        Told::of(&self.texts(chosen), run.networks, run.prompts, self.resolution)
    }

    /// Sampling of trajectories of the prompts `told`.
    pub fn guided<'a>(&'a self, told: &'a Told) -> Guided<'a> {
        Guided { sampler: &*self.sampler, guidance_scale: self.config.guidance_scale, told }
    }

    fn counts(&self) -> Counts {
        Counts {
            trajectories: self.grid().len() as u64,
            calls: self.sampler.timesteps().len() as u64,
            noisy: self.sampler.noisy_calls() as u64,
            beside: Rule::of(&self.needs).rows(),
            read: self.read(),
        }
    }

    /// Number of network calls to sample an iteration, all trajectories together: the unit of progress.
    pub fn calls(&self) -> u64 {
        let calls = self.sampler.timesteps().len();
        (self.grid().len() * (calls + self.maker.extra_calls(calls))) as u64
    }

    /// Largest number of network evaluations to sample an iteration.
    pub fn evaluations(&self) -> u64 {
        let counts = self.counts();
        // The start model is evaluated once per kept state.
        let start = if self.needs.reference() { counts.trajectories * counts.noisy } else { 0 };
        (self.calls() + start) * self.per_prediction()
    }

    /// Largest size of an iteration's buffer in bytes.
    pub fn buffer_bytes(&self) -> u64 {
        self.maker.rows(&self.counts()).saturating_mul(self.shape.iter().product::<i64>() as u64 * 4)
    }

    /// Refuses a buffer that does not fit, before sampling.
    fn refuse_too_large(&self) -> Result<()> {
        let bytes = self.buffer_bytes();
        if self.config.buffer == Buffer::Disk {
            let remedy = "or lower rollout.prompts_per_iteration, rollout.trajectories or rollout.steps";
            return check_space(&self.run, bytes, "rollout.buffer = \"disk\"", remedy);
        }
        match memory::on(Device::Cpu) {
            Some(free) if bytes > free => Err(ConfigError(format!(
                "rollout.buffer = \"memory\": what an iteration keeps takes up to {}, and {} are free. Set rollout.buffer = \"disk\", or lower rollout.prompts_per_iteration, rollout.trajectories or rollout.steps.",
                in_words(bytes),
                in_words(free)
            ))
            .into()),
            _ => Ok(()),
        }
    }

    /// The last call of a sampler may add no noise: such a step has no probability.
    fn refuse_without_steps(&self) -> Result<()> {
        let skipped = self.maker.skipped();
        if self.sampler.noisy_calls() > skipped {
            return Ok(());
        }
        let remedy = if skipped > 0 { "Raise rollout.steps or lower method.skip_steps" } else { "Raise rollout.steps" };
        bail!(ConfigError(format!(
            "rollout.steps = {}: the last step of this model's sampler adds no noise, so no step is left to train on. {remedy}.",
            self.config.steps
        )));
    }
}
