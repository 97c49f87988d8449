//! One optimizer step: micro-batches through the networks, the objective, the backward pass, the update.
//!
//! This is where gradients and sums of metrics of all micro-batches meet; several processes would meet here too.

use super::forward::Forward;
use super::guards::{Beta, SpikeGuard};
use super::metrics::StepRecords;
use super::optimizer::{Ema, Optimizer};
use super::stepwise::UnitRecords;
use crate::data::batches::Batch;
use crate::networks::{Inverting, Machine, Networks, Noised, Renewal, Swapped, Truncating};
use crate::objectives::statistics::{Law, Running};
use crate::objectives::timestep_weight::TimestepWeight;
use crate::objectives::{
    Compared, Errors, Evaluation, Labelled, Needs, Objective, Step, Weighting, evaluate, safeguard, statistic_values,
    weight_values,
};
use crate::progress::{Halted, Stop};
use crate::rollout::UnitBatch;
use crate::settings::OnSpike;
use anyhow::{Context, Result, bail};
use pipelines::Levels;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// What a step works with.
pub struct Learner {
    pub networks: Networks,
    pub objective: Objective,
    pub needs: Needs,
    /// `error = "native"`: margins and metrics in the model's own parameterisation.
    pub native_errors: bool,
    /// lambda(t) of `timesteps.weighting`.
    pub timestep_weight: Option<TimestepWeight>,
    pub inverting: Option<Inverting>,
    /// Of a method that trains on its own truncated rollouts.
    pub truncating: Option<Truncating>,
    /// mu of the SDPO safeguard.
    pub safeguard: Option<f64>,
    /// How the method's own loss weights are normalised.
    pub own_weights: OwnWeights,
    /// Some loss is weighted: by the data or by the method.
    pub weighted: bool,
    pub statistics: Statistics,
    pub optimizer: Optimizer,
    pub ema: Option<Ema>,
    pub beta: Beta,
    /// The method has a beta: metrics report it.
    pub has_beta: bool,
    pub guard: SpikeGuard,
    pub on_spike: OnSpike,
    /// Micro-batches a step, and steps of the run.
    pub grad_accum: u64,
    pub steps: u64,
}

/// What a method's own weights are divided by (docs/methods.md, section 0.7).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OwnWeights {
    /// A number known before training: their mean over the training set, or 1 as published.
    By(f64),
    /// Their running mean over the steps before.
    Running,
}

/// What the steps so far have left for the next ones. Part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    pub statistic: Running,
    pub weight: Running,
}

/// How a step ended.
pub struct StepOutcome {
    pub records: StepRecords,
    pub beta: f64,
    pub lr: f64,
    pub grad_norm: f64,
    pub spike: bool,
    pub skipped: bool,
    pub renewal: Renewal,
}

/// What goes through the networks together.
pub enum MicroBatch<'a> {
    /// Items of a data set.
    Items(Batch),
    /// Units of transitions that the policy sampled.
    Units(UnitBatch<'a>),
}

/// The micro-batches of a step, from the first; some methods go through them twice.
pub type MicroBatches<'a> = dyn Fn() -> Box<dyn Iterator<Item = Result<Option<MicroBatch<'a>>>> + 'a> + 'a;

/// A step while its micro-batches are gone through.
struct InHand {
    step: Step,
    weighting: Weighting,
    records: StepRecords,
    /// Errors of all micro-batches so far, for the statistics of later steps.
    seen: Vec<Errors>,
    divergence: Vec<f64>,
}

impl Learner {
    /// Step `s` at rate `lr`. Weights and statistics change only at the very end, so that a stop or an error leaves the
    /// state of step s - 1.
    ///
    /// # Errors
    /// `Stopped`; [`Halted`] where a loss or gradient is not finite, at a spike that should stop the run, or when too
    /// many were skipped in a row.
    pub fn step(&mut self, s: u64, lr: f64, batches: &MicroBatches, stop: &Stop) -> Result<StepOutcome> {
        let beta = self.beta.of_step(s);
        self.optimizer.zero_grad();
        let step = Step { beta, number: s, steps: self.steps, statistic: 0.0 };
        let ahead = self.looks_ahead();
        let seen = if ahead && self.grad_accum > 1 { self.look_ahead(batches, stop)? } else { Vec::new() };
        let (step, weighting) = self.with_statistics(step, &seen);
        let mut now = InHand { step, weighting, records: StepRecords::default(), seen: vec![], divergence: vec![] };
        for batch in batches() {
            let trained = match batch? {
                Some(MicroBatch::Items(batch)) => self.micro_batch(&batch, &mut now, ahead && self.grad_accum == 1),
                Some(MicroBatch::Units(batch)) => self.unit_batch(&batch, &mut now),
                None => Ok(()),
            };
            trained.with_context(|| format!("step {s}"))?;
            stop.check()?;
        }
        let InHand { step, mut records, seen, divergence, .. } = now;
        records.statistic = self.needs.statistic.map(|statistic| (statistic.name, step.statistic));
        if records.losses.is_empty() {
            self.beta.used(beta);
            let renewal = self.renew(s, &divergence);
            return Ok(StepOutcome { records, beta, lr, grad_norm: 0.0, spike: false, skipped: true, renewal });
        }
        let grads = self.optimizer.gradients(1.0 / records.losses.len() as f64)?;
        let grad_norm = self.optimizer.grad_norm(&grads).with_context(|| format!("step {s}"))?;
        let spike = self.guard.is_spike(grad_norm);
        let skipped = self.skips(s, grad_norm, spike)?;
        if skipped {
            self.guard.skipped();
        } else {
            self.optimizer.step(&grads, grad_norm, lr)?;
            self.taken(grad_norm, &records, &seen, &step);
        }
        self.beta.used(beta);
        let renewal = self.renew(s, &divergence);
        Ok(StepOutcome { records, beta, lr, grad_norm, spike, skipped, renewal })
    }

    /// Whether a spike means that this step is not taken.
    fn skips(&self, s: u64, grad_norm: f64, spike: bool) -> Result<bool> {
        if spike && self.on_spike == OnSpike::Stop {
            bail!(Halted::before_update(format!(
                "step {s}: the gradient norm {grad_norm:.3e} left its recent range and train.on_spike = \"stop\"; the weights were not changed. Start another run with a lower optim.lr, or with train.on_spike = \"skip\"."
            )));
        }
        let skipped = spike && self.on_spike == OnSpike::Skip;
        if skipped && self.guard.exhausted() {
            bail!(Halted::too_late(format!(
                "step {s}: {} spikes in a row were skipped; the last checkpoint is the state to go back to. Start another run with a lower optim.lr.",
                SpikeGuard::SKIPS_ALLOWED
            )));
        }
        Ok(skipped)
    }

    /// What follows a step whose weights were updated.
    fn taken(&mut self, grad_norm: f64, records: &StepRecords, seen: &[Errors], step: &Step) {
        self.guard.taken(grad_norm);
        if let Some(ema) = &mut self.ema {
            ema.update(&self.networks.policy.trainable);
        }
        if let Some(mean_abs_h) = records.mean_abs_h() {
            self.beta.observe(mean_abs_h);
        }
        if self.needs.statistic.is_some_and(|s| s.law != Law::Step) {
            let values: Vec<f64> = seen.iter().flat_map(|e| statistic_values(&self.objective, e, step)).collect();
            self.statistics.statistic.observe(&values);
        }
        if self.own_weights == OwnWeights::Running && self.needs.weights {
            let values: Vec<f64> = seen.iter().flat_map(|e| weight_values(&self.objective, e, step)).collect();
            self.statistics.weight.observe(&values);
        }
    }

    /// The policy under its average, where there is one, until the guard is dropped.
    pub fn averaged(&self) -> Option<Swapped<'_>> {
        self.networks.under(self.ema.as_ref().map(|ema| ema.weights.as_slice()))
    }

    fn renew(&mut self, s: u64, divergence: &[f64]) -> Renewal {
        let Some(moved) = &mut self.networks.moved else { return Renewal::default() };
        let mean = (!divergence.is_empty()).then(|| divergence.iter().sum::<f64>() / divergence.len() as f64);
        moved.end_of_step(s, mean, &self.networks.policy.trainable)
    }

    /// Whether all errors of the step must be known before its first backward pass.
    fn looks_ahead(&self) -> bool {
        let statistic = self.needs.statistic.is_some_and(|s| s.law.looks_ahead(&self.statistics.statistic));
        let weights = self.needs.weights && self.own_weights == OwnWeights::Running;
        statistic || (weights && Law::Before.looks_ahead(&self.statistics.weight))
    }

    /// The errors of all micro-batches, without gradients.
    fn look_ahead(&self, batches: &MicroBatches, stop: &Stop) -> Result<Vec<Errors>> {
        let _frozen = tch::no_grad_guard();
        let mut seen = Vec::new();
        for batch in batches() {
            if let Some(MicroBatch::Items(batch)) = batch? {
                seen.push(self.forward(&batch, false)?.errors);
            }
            stop.check()?;
        }
        Ok(seen)
    }

    /// What the step's losses read beside its errors; `seen`: all of them, where the method looks ahead.
    fn with_statistics(&self, step: Step, seen: &[Errors]) -> (Step, Weighting) {
        let mut step = step;
        if let Some(statistic) = self.needs.statistic {
            let values: Vec<f64> = seen.iter().flat_map(|e| statistic_values(&self.objective, e, &step)).collect();
            step.statistic = self.statistics.statistic.of_step(statistic.law, &values);
        }
        let mean = match self.own_weights {
            OwnWeights::By(mean) => mean,
            OwnWeights::Running if !self.needs.weights => 1.0,
            OwnWeights::Running => {
                let values: Vec<f64> = seen.iter().flat_map(|e| weight_values(&self.objective, e, &step)).collect();
                self.statistics.weight.of_step(Law::Before, &values)
            }
        };
        // A step whose weights are all 0 has nothing to divide.
        (step, Weighting::Divided(if mean > 0.0 { mean } else { 1.0 }))
    }

    /// `alone`: this is the whole step and its statistics are still to be taken.
    fn micro_batch(&mut self, batch: &Batch, now: &mut InHand, alone: bool) -> Result<()> {
        if let Some(truncating) = &self.truncating {
            let losses = self.train_truncated(truncating, batch)?;
            now.records.add_units(&losses, UnitRecords::default());
            return Ok(());
        }
        let forward =
            self.forward(batch, self.networks.moved.as_ref().is_some_and(|moved| moved.measures(now.step.number)))?;
        if alone {
            (now.step, now.weighting) = self.with_statistics(now.step, std::slice::from_ref(&forward.errors));
        }
        let mut evaluation = evaluate(&self.objective, &forward.errors, &now.step, now.weighting)?;
        refuse_not_finite(batch, &evaluation)?;
        let lam = self.protect_winners(&forward, &mut evaluation);
        forward.backward(&evaluation)?;
        now.records.add(evaluation, lam, forward.inversion);
        now.divergence.extend(forward.divergence);
        now.seen.push(forward.errors);
        Ok(())
    }

    fn unit_batch(&mut self, batch: &UnitBatch, now: &mut InHand) -> Result<()> {
        let (losses, records) = self.train_units(batch, &now.step)?;
        now.records.add_units(&losses, records);
        Ok(())
    }

    /// Scales the losers' derivatives by the safeguard's lam, and returns it.
    fn protect_winners(&self, forward: &Forward, evaluation: &mut Evaluation) -> Vec<f64> {
        let (Some(mu), Some(product)) = (self.safeguard, &forward.product) else { return Vec::new() };
        let errors = &forward.errors;
        let (Some(factor), Some(theta_w)) =
            (errors.image(&errors.epsilon_factor, 0), errors.image(&errors.epsilon_theta(), 0))
        else {
            return Vec::new();
        };
        let lam = safeguard::lam(mu, &theta_w, &(product * factor), forward.numel);
        let rows: Vec<i64> = errors.items.iter().filter_map(|item| item.rows.get(1).copied()).collect();
        let rows = Tensor::from_slice(&rows).to_device(lam.device());
        let scaled = evaluation.d_theta.index_select(0, &rows) * &lam;
        evaluation.d_theta = evaluation.d_theta.index_copy(0, &rows, &scaled);
        crate::objectives::numbers(&lam)
    }

    /// `[R]`, master kind: what turns squared residuals into those of margins and metrics.
    pub fn epsilon_factor(&self, noised: &Noised) -> Tensor {
        let Machine { master, device, .. } = self.networks.machine;
        match self.native_errors {
            true => Tensor::ones([noised.levels.rows()], (master, device)),
            false => self.networks.epsilon_factor(noised),
        }
    }

    /// lambda(t), `[R]`, master kind.
    pub fn lambda(&self, levels: &Levels) -> Tensor {
        let Machine { master, device, .. } = self.networks.machine;
        match &self.timestep_weight {
            Some(weight) => {
                let noise_to_signal = self.networks.policy.denoiser.process.noise_to_signal(levels);
                weight.lambda(&noise_to_signal).to_device(device).to_kind(master)
            }
            None => Tensor::ones([levels.rows()], (master, device)),
        }
    }
}

/// A loss or an error that is not finite ends the run before its weights are touched.
fn refuse_not_finite(batch: &Batch, evaluation: &Evaluation) -> Result<()> {
    let halt = |name: &str, id: &str, level: f64, value: f64| {
        Halted::before_update(format!(
            "{name} of {id} at timestep {level} is {value}; the weights were not changed. Look at the item, or start another run with a lower optim.lr or in float32."
        ))
    };
    let of_pair = |c: &Compared| {
        [("e_theta(w)", Some(c.theta_w)), ("e_theta(l)", c.theta_l), ("e_ref(w)", c.ref_w), ("e_ref(l)", c.ref_l)]
            .into_iter()
            .find_map(|(name, value)| {
                value.filter(|x| !x.is_finite()).map(|x| halt(name, &format!("pair {}", c.id), c.level, x))
            })
    };
    let of_label = |l: &Labelled| {
        [("e_theta", Some(l.theta)), ("e_ref", l.reference)].into_iter().find_map(|(name, value)| {
            value.filter(|x| !x.is_finite()).map(|x| halt(name, &format!("image {}", l.id), l.level, x))
        })
    };
    let found = evaluation.compared.iter().find_map(of_pair).or_else(|| evaluation.labelled.iter().find_map(of_label));
    let lost = evaluation.losses.iter().find(|l| !l.loss.is_finite()).map(|l| {
        let item = &batch.items[l.item];
        halt("loss", &format!("{} {}", item.preference.noun(), item.id), item.level, l.loss)
    });
    match found.or(lost) {
        Some(halted) => bail!(halted),
        None => Ok(()),
    }
}
