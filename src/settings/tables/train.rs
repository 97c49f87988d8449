//! [train]: how long and in which portions.

use crate::keys::OnResume::{Harmless, MoreSteps, Rounding, SameProduct};
use crate::keys::{Auto, Key, Kind, Range, at_least, of, one_of, switch, text, whole, within};
use crate::settings::facts::{Facts, Refusal};
use pipelines::models::Recompute;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

crate::choice! {
    /// `[train] on_spike`
    pub enum OnSpike {
        Warn = "warn",
        Skip = "skip",
        Stop = "stop",
    }
}

crate::choice! {
    /// `[train] pair_split`
    #[derive(Default)]
    pub enum PairSplit {
        #[default]
        Off = "off",
        On = "on",
    }
}

/// Products of these stay far below 2^63, so that positions of a run can be numbered.
pub(super) const STEPS: Key = whole(1, 1_000_000_000);
pub(super) const PORTION: Key = whole(1, 65_536);
/// Most steps of a run.
const MOST_STEPS: f64 = 1e9;

crate::keys! {
    pub struct Parsed {
        /// run folder; default runs/<config file name>
        out: Option<PathBuf> = text().on_resume(Harmless),
        /// optimizer steps (or epochs)
        steps: Option<u64> = STEPS.on_resume(MoreSteps),
        /// passes over the training pairs, or iterations of [rollout] (or steps)
        epochs: Option<f64> = within(Range::POSITIVE),
        /// pairs that go through the network together
        micro_batch: u64 = PORTION.or("1").on_resume(SameProduct),
        /// micro-batches a step; default 1
        grad_accum: Option<u64> = PORTION.on_resume(SameProduct),
        /// instead of grad_accum: a multiple of micro_batch
        pairs_per_step: Option<u64> = PORTION,
        /// of every random stream
        seed: u64 = at_least(0).or("0"),
        /// of libtorch
        threads: Auto<usize> = whole(1, 1024).or_auto().on_resume(Rounding),
        /// steps
        checkpoint_every: u64 = at_least(1).or("200").on_resume(Harmless),
        /// whole checkpoints kept
        keep_last: usize = at_least(1).or("2").on_resume(Harmless),
        /// checkpoints at multiples of this stay
        keep_every: Option<u64> = at_least(1).on_resume(Harmless),
        /// recompute instead of storing: less memory, more time
        gradient_checkpointing: Recompute = of(Kind::Choice(&Recompute::NAMES, &[])).or_text("none").on_resume(Rounding),
        /// on: the images of an item one after the other, in about half the memory of activations; auto: off
        pair_split: Auto<PairSplit> = one_of::<PairSplit>().or_auto().on_resume(Rounding),
        /// when the gradient norm leaves its recent range
        on_spike: OnSpike = one_of::<OnSpike>().or_text("warn"),
        /// delete what the run folder holds
        overwrite: bool = switch().or("false").on_resume(Harmless),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainConfig {
    pub out: PathBuf,
    pub steps: u64,
    pub micro_batch: u64,
    pub grad_accum: u64,
    pub seed: u64,
    pub threads: usize,
    pub checkpoint_every: u64,
    pub keep_last: usize,
    pub keep_every: Option<u64>,
    pub gradient_checkpointing: Recompute,
    pub pair_split: Auto<PairSplit>,
    pub on_spike: OnSpike,
    pub overwrite: bool,
}

impl TrainConfig {
    /// Pairs per optimizer step.
    pub fn pairs_per_step(&self) -> u64 {
        self.micro_batch * self.grad_accum
    }
}

impl Parsed {
    /// `per_epoch`: optimizer steps in an epoch with so many pairs a step; `None`: only known once pictures are rated.
    pub(in crate::settings) fn resolve(
        &self,
        file: &str,
        facts: &Facts,
        per_epoch: &dyn Fn(f64) -> Option<f64>,
    ) -> Result<TrainConfig, Refusal> {
        let grad_accum = self.grad_accum()?;
        let steps = self.steps((self.micro_batch * grad_accum) as f64, per_epoch)?;
        let stem = || Path::new(file).file_stem().map_or("run".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(TrainConfig {
            out: self.out.clone().unwrap_or_else(|| format!("runs/{}", stem()).into()),
            steps,
            micro_batch: self.micro_batch,
            grad_accum,
            seed: self.seed,
            threads: self.threads.given().unwrap_or(facts.cores),
            checkpoint_every: self.checkpoint_every,
            keep_last: self.keep_last,
            keep_every: self.keep_every,
            gradient_checkpointing: self.gradient_checkpointing,
            pair_split: self.pair_split,
            on_spike: self.on_spike,
            overwrite: self.overwrite,
        })
    }

    fn grad_accum(&self) -> Result<u64, Refusal> {
        let micro_batch = self.micro_batch;
        match (self.grad_accum, self.pairs_per_step) {
            (Some(_), Some(_)) => {
                Err("train.grad_accum and train.pairs_per_step are both given: expected one of them.".into())
            }
            (given, None) => Ok(given.unwrap_or(1)),
            (None, Some(pairs)) if pairs % micro_batch == 0 => Ok(pairs / micro_batch),
            (None, Some(pairs)) => Err(format!(
                "train.pairs_per_step = {pairs}: expected a multiple of train.micro_batch = {micro_batch}."
            )),
        }
    }

    fn steps(&self, per_step: f64, per_epoch: &dyn Fn(f64) -> Option<f64>) -> Result<u64, Refusal> {
        let epochs = match (self.steps, self.epochs) {
            (Some(_), Some(_)) => {
                return Err("train.steps and train.epochs are both given: expected one of them.".into());
            }
            (Some(steps), None) => return Ok(steps),
            (None, None) => {
                return Err("train.steps is missing: optimizer steps. Add it (or epochs) under [train].".into());
            }
            (None, Some(epochs)) => epochs,
        };
        let Some(per_epoch) = per_epoch(per_step) else {
            return Err(format!(
                "train.epochs = {epochs}: how many steps an iteration has depends on what its pictures are worth. Set train.steps, or rollout.updates_per_iteration."
            ));
        };
        let steps = (epochs * per_epoch).ceil().max(1.0);
        if steps > MOST_STEPS {
            return Err(format!(
                "train.epochs = {epochs}: expected at most {MOST_STEPS:e} steps, these are {steps:e}."
            ));
        }
        Ok(steps as u64)
    }
}
