//! One optimizer step in four movements: partial, merge, decide, apply.

use super::criterion::Criterion;
use super::guards::SpikeGuard;
use super::history::History;
use super::partial::{Merged, Terms};
use super::pass::{Latents, Pass};
use super::records::StepRecords;
use crate::data::batches::Batch;
use crate::networks::{Networks, Renewal, Swapped};
use crate::objectives::{Errors, Evaluation, Step};
use crate::optimizer::{Ema, Optimizer};
use crate::progress::{Halted, Stop};
use crate::rollout::UnitBatch;
use crate::settings::OnSpike;
use crate::world::{World, settle};
use anyhow::{Context, Result, bail};
use diffpref_native::scale_;
use tch::Tensor;

/// State of training.
pub struct Learner {
    networks: Networks,
    criterion: Criterion,
    latents: Latents,
    optimizer: Optimizer,
    ema: Option<Ema>,
    history: History,
    limits: Limits,
}

/// Bounds of a run's steps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub on_spike: OnSpike,
    /// Micro-batches per step.
    pub grad_accum: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Images of an item go through the policy one after the other.
    pub split: bool,
}

/// End of a step.
pub struct StepOutcome {
    pub records: StepRecords,
    /// The objective's statistic with its name.
    pub statistic: Option<(&'static str, f64)>,
    pub beta: f64,
    pub lr: f64,
    pub grad_norm: f64,
    pub spike: bool,
    pub skipped: bool,
    pub renewal: Renewal,
}

/// Rows of one forward pass.
pub enum MicroBatch<'a> {
    /// Items of a data set.
    Items(Batch),
    /// Units of transitions sampled by the policy.
    Units(UnitBatch<'a>),
}

/// The micro-batches of a step on this rank, from the first; some methods iterate over them twice.
pub type MicroBatches<'a> = dyn Fn() -> Box<dyn Iterator<Item = Result<Option<MicroBatch<'a>>>> + 'a> + 'a;

/// Treatment of a step's gradients: the same on every rank.
struct Decision {
    /// Means over the items of the step.
    grads: Vec<Tensor>,
    grad_norm: f64,
    spike: bool,
    /// Weights keep their values.
    skipped: bool,
}

impl Learner {
    pub fn new(
        networks: Networks,
        criterion: Criterion,
        latents: Latents,
        optimizer: Optimizer,
        ema: Option<Ema>,
        history: History,
        limits: Limits,
    ) -> Self {
        Self { networks, criterion, latents, optimizer, ema, history, limits }
    }

    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    pub fn criterion(&self) -> &Criterion {
        &self.criterion
    }

    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Average of the trained tensors by name, if any.
    pub fn average(&self) -> Option<&[(String, Tensor)]> {
        self.ema.as_ref().map(|ema| ema.weights.as_slice())
    }

    /// The policy with averaged weights, if any, until the guard is dropped.
    pub fn averaged(&self) -> Option<Swapped<'_>> {
        self.networks.under(self.average())
    }

    /// Tensors restored from a checkpoint.
    pub fn restored(&mut self) -> (&mut Networks, &mut Optimizer, Option<&mut Ema>, &mut History) {
        (&mut self.networks, &mut self.optimizer, self.ema.as_mut(), &mut self.history)
    }

    /// The networks after training.
    pub fn into_networks(self) -> Networks {
        self.networks
    }

    /// Inputs of micro-batches.
    pub fn pass(&self) -> Pass<'_> {
        let Self { networks, criterion, latents, limits, .. } = self;
        Pass { networks, criterion, latents, average: self.average(), split: limits.split }
    }

    /// Step `s` at rate `lr`. Weights and history change only at the very end, so that a stop or an error leaves the
    /// state of step s - 1.
    ///
    /// # Errors
    /// `Stopped`; [`Halted`] for a loss or gradient that is not finite, a spike with on_spike = "stop", or too many
    /// skips in a row.
    pub fn step(
        &mut self,
        s: u64,
        lr: f64,
        batches: &MicroBatches,
        world: &dyn World,
        stop: &Stop,
    ) -> Result<StepOutcome> {
        let merged = self.partials(s, batches, world, stop)?;
        let mut grads = self.optimizer.accumulated();
        let merged = merged.across(world, &mut grads)?;
        let decision = self.decide(s, grads, &merged)?;
        self.apply(s, lr, decision, merged)
    }

    /// Movements 1 and 2: every micro-batch of this rank, merged one after the other.
    fn partials(&self, s: u64, batches: &MicroBatches, world: &dyn World, stop: &Stop) -> Result<Merged> {
        let step = Step { beta: self.history.beta.of_step(s), number: s, steps: self.limits.steps, statistic: 0.0 };
        let (ahead, statistics) = (self.criterion.looks_ahead(&self.history.statistics), &self.history.statistics);
        let twice = ahead && self.limits.grad_accum > 1;
        let seen = if twice { settle(world, self.look_ahead(batches, stop))? } else { Vec::new() };
        let terms = self.criterion.terms(step, statistics, &seen, world)?;
        let own = (ahead && !twice).then_some(statistics);
        let together = self.criterion.together(&seen, &terms).with_context(|| format!("step {s}"))?;
        self.optimizer.zero_grad();
        let merged = self.merged(&terms, own.is_some(), together, batches, stop).with_context(|| format!("step {s}"));
        settle(world, merged)
    }

    /// `together`: losses of the micro-batches in their order, for a loss of the whole step.
    fn merged(
        &self,
        terms: &Terms,
        whole: bool,
        together: Vec<Evaluation>,
        batches: &MicroBatches,
        stop: &Stop,
    ) -> Result<Merged> {
        let own = whole.then_some(&self.history.statistics);
        let (pass, mut merged, mut together) = (self.pass(), Merged::new(*terms), together.into_iter());
        for batch in batches() {
            let partial = match (batch?, pass.latents) {
                (Some(MicroBatch::Items(batch)), Latents::Truncated(truncating)) => {
                    pass.truncated(truncating, &batch, terms)
                }
                (Some(MicroBatch::Items(batch)), Latents::Noised | Latents::Inverted(_)) => {
                    pass.items(&batch, terms, own, together.next())
                }
                (Some(MicroBatch::Units(batch)), _) => pass.units(&batch, terms),
                (None, _) => continue,
            };
            merged.merge(partial?)?;
            stop.check()?;
        }
        Ok(merged)
    }

    /// The errors of all micro-batches, without gradients.
    fn look_ahead(&self, batches: &MicroBatches, stop: &Stop) -> Result<Vec<Errors>> {
        let _frozen = tch::no_grad_guard();
        let mut seen = Vec::new();
        for batch in batches() {
            if let Some(MicroBatch::Items(batch)) = batch? {
                seen.push(self.pass().forward(&batch, false)?.errors);
            }
            stop.check()?;
        }
        Ok(seen)
    }

    /// Movement 3: the gradients of the whole step, and the decision to follow them.
    fn decide(&self, s: u64, grads: Vec<Tensor>, merged: &Merged) -> Result<Decision> {
        let items = merged.records.losses.len();
        if items == 0 {
            return Ok(Decision { grads, grad_norm: 0.0, spike: false, skipped: true });
        }
        scale_(&grads, 1.0 / items as f64)?;
        let grad_norm = self.optimizer.grad_norm(&grads).with_context(|| format!("step {s}"))?;
        let spike = self.history.guard.is_spike(grad_norm);
        let skipped = self.skips(s, grad_norm, spike)?;
        Ok(Decision { grads, grad_norm, spike, skipped })
    }

    /// Whether a spike cancels this step.
    fn skips(&self, s: u64, grad_norm: f64, spike: bool) -> Result<bool> {
        if spike && self.limits.on_spike == OnSpike::Stop {
            bail!(Halted::before_update(format!(
                "step {s}: the gradient norm {grad_norm:.3e} left its recent range and train.on_spike = \"stop\"; the weights were not changed. Start another run with a lower optim.lr, or with train.on_spike = \"skip\"."
            )));
        }
        let skipped = spike && self.limits.on_spike == OnSpike::Skip;
        if skipped && self.history.guard.exhausted() {
            bail!(Halted::too_late(format!(
                "step {s}: {} spikes in a row were skipped; the last checkpoint is the state to go back to. Start another run with a lower optim.lr.",
                SpikeGuard::SKIPS_ALLOWED
            )));
        }
        Ok(skipped)
    }

    /// Movement 4: optimizer, average, history and reference change.
    fn apply(&mut self, s: u64, lr: f64, decision: Decision, merged: Merged) -> Result<StepOutcome> {
        let Decision { grads, grad_norm, spike, skipped } = decision;
        let Merged { terms, records, values } = merged;
        if !skipped {
            self.optimizer.step(&grads, grad_norm, lr)?;
            self.history.guard.taken(grad_norm);
            if let Some(ema) = &mut self.ema {
                ema.update(&self.networks.policy.trainable);
            }
            if let Some(mean_abs_h) = records.mean_abs_h() {
                self.history.beta.observe(mean_abs_h);
            }
            self.criterion.observe(&values, &mut self.history.statistics);
        } else if !records.losses.is_empty() {
            self.history.guard.skipped();
        }
        let beta = terms.step.beta;
        self.history.beta.used(beta);
        let renewal = self.renew(s, &values.divergence);
        let statistic = self.criterion.needs.statistic.map(|statistic| (statistic.name, terms.step.statistic));
        Ok(StepOutcome { records, statistic, beta, lr, grad_norm, spike, skipped, renewal })
    }

    fn renew(&mut self, s: u64, divergence: &[f64]) -> Renewal {
        let Networks { policy, moved: Some(moved), .. } = &mut self.networks else { return Renewal::default() };
        let mean = (!divergence.is_empty()).then(|| divergence.iter().sum::<f64>() / divergence.len() as f64);
        moved.end_of_step(s, mean, &policy.trainable)
    }
}
