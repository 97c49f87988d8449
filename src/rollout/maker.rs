//! The interface of every kind of unit.

use super::advantages::Advantages;
use super::asked::Asked;
use super::grid::{Grid, Indices, Trajectory};
use super::kept::{Keeping, KeptUnit};
use super::pictures::Pictures;
use super::recorded::Rule;
use super::trajectories;
use crate::data::draws::Draws;
use anyhow::Result;
use pipelines::schedulers::StochasticSampler;
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// An iteration to sample.
#[derive(Clone, Copy)]
pub struct Iteration<'a> {
    pub number: u64,
    pub draws: Draws,
    pub grid: Grid,
    /// Indices of its prompts in the file.
    pub prompts: &'a [usize],
    /// Units that its updates will read, if known before sampling.
    pub read: usize,
}

/// Inputs of sampling.
pub struct Sampling<'a> {
    pub asked: &'a Asked<'a>,
    /// The sampler with eta 0.
    pub ahead: &'a dyn StochasticSampler,
    pub pictures: &'a Pictures<'a>,
    pub rule: Rule,
    pub iteration: Iteration<'a>,
    /// Transitions `(trajectory, call)` that training reads.
    pub wanted: &'a dyn Fn(usize, usize) -> bool,
    /// Called with the rows of each call of the network; false ends sampling.
    pub on_call: &'a dyn Fn(usize) -> bool,
}

/// Pairs of candidates, sorted by trajectory and call, whatever was sampled together.
pub type Pairs = BTreeMap<(usize, usize), KeptUnit>;

/// Results of an iteration's trajectories.
pub struct Found {
    pub keeping: Keeping,
    pub indices: Indices,
    /// Pairs made while sampling.
    pub pairs: Pairs,
    /// Prompts whose pictures are all worth the same, for a kind that compares the pictures of a prompt.
    pub idle_groups: Option<u64>,
}

/// Rewards of an iteration's trajectories, in their order.
pub struct Rewarded<'a> {
    /// Mixtures, shaped.
    pub rewards: &'a [f64],
    /// Every scorer's own, higher is better, shaped by itself, `[scorers][trajectories]`.
    pub each: &'a [Vec<f64>],
    /// Weights of the scorers.
    pub weights: &'a [f64],
}

/// Counts of an iteration, for its size and cost.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub trajectories: u64,
    /// Calls of the sampler, and the number of calls with noise.
    pub calls: u64,
    pub noisy: u64,
    /// Rows stored per transition besides its ends.
    pub beside: u64,
    pub read: u64,
}

impl Counts {
    /// Rows of whole trajectories.
    pub fn whole(&self) -> u64 {
        self.trajectories * (self.noisy + 1 + self.noisy * self.beside)
    }
}

/// Construction of units, each the input of one loss, from sampled trajectories. One file per kind, in units/.
pub trait UnitMaker {
    /// The transitions `(trajectory, call)` that training reads; `None`: all with noise.
    ///
    /// # Errors
    /// A generator that libtorch refuses.
    fn wanted(&self, _: &Iteration) -> Result<Option<BTreeSet<(usize, usize)>>> {
        Ok(None)
    }

    /// Samples trajectories together. Returns the latents of their pictures `[B, C, h, w]`; `None` once `on_call`
    /// returns false.
    ///
    /// # Errors
    /// Errors of networks, scorers or the disk.
    fn sample(&self, batch: &[Trajectory], sampling: &Sampling, found: &mut Found) -> Result<Option<Tensor>> {
        trajectories::sample(
            sampling.asked,
            batch,
            sampling.wanted,
            sampling.rule,
            &mut found.keeping,
            &mut found.indices,
            sampling.on_call,
        )
    }

    /// The units of an iteration. `advantages`: for a kind with a memory of rewards.
    ///
    /// # Errors
    /// Those of [`wanted`](Self::wanted); rewards outside the range that the kind takes.
    fn make(
        &self,
        iteration: &Iteration,
        rewarded: &Rewarded,
        found: &mut Found,
        advantages: &mut Option<Advantages>,
    ) -> Result<Vec<KeptUnit>>;

    /// Largest number of rows of latents that an iteration keeps.
    fn rows(&self, counts: &Counts) -> u64 {
        counts.whole()
    }

    /// Calls of the network besides those of the trajectories themselves, per trajectory.
    fn extra_calls(&self, _calls: usize) -> usize {
        0
    }

    /// Its initial memory of earlier iterations.
    fn advantages(&self) -> Option<Advantages> {
        None
    }

    /// First calls whose steps are not trained.
    fn skipped(&self) -> usize {
        0
    }

    /// Units are trained in the order of their construction.
    fn is_ordered(&self) -> bool {
        false
    }

    /// Possible reason for an iteration without units.
    fn why_empty(&self) -> &'static str {
        "all rewards of every prompt were equal. Look at [reward]; more trajectories or another seed may help too."
    }
}
