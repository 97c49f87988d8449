//! One optimizer step: micro-batches through the networks, the objective, the backward pass, the update.
//!
//! This is where gradients and sums of metrics of all micro-batches meet; several processes would meet here too.

use super::guards::{Beta, SpikeGuard};
use super::metrics::{PairRecord, StepRecords};
use super::optimizer::{Ema, Optimizer};
use super::policy::{Machine, Noised, Policy, Reference};
use crate::data::batches::PairBatch;
use crate::objectives::{Derivative, Objective, PairErrors, StepContext, differentiate};
use crate::progress::Stop;
use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

/// What a step works with.
pub struct Learner {
    pub machine: Machine,
    pub policy: Policy,
    pub reference: Reference,
    pub objective: Box<dyn Objective>,
    /// `error = "native"`: margins and metrics in the model's own parameterisation.
    pub native_errors: bool,
    pub optimizer: Optimizer,
    pub ema: Option<Ema>,
    pub beta: Beta,
    pub guard: SpikeGuard,
    pub on_spike: OnSpike,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSpike {
    Warn,
    Skip,
    Stop,
}

/// How a step ended.
pub struct StepOutcome {
    pub records: StepRecords,
    pub beta: f64,
    pub lr: f64,
    pub grad_norm: f64,
    pub spike: bool,
    pub skipped: bool,
}

/// The numbers ran away: the run cannot go on from here.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Halted {
    reason: String,
    /// Whether the weights of the last finished step are good: then they are checkpointed. Else the last checkpoint is
    /// the state to go back to, and no newer one may push it out.
    pub last_step_is_good: bool,
}

impl Halted {
    /// Noticed before the weights were touched.
    pub fn before_update(reason: String) -> Self {
        Self { reason, last_step_is_good: true }
    }

    /// Noticed when the weights may be beyond repair.
    pub fn too_late(reason: String) -> Self {
        Self { reason, last_step_is_good: false }
    }
}

impl Learner {
    /// Step `s` at rate `lr` over `batches` (each asked for when the one before is done). Weights and statistics change
    /// only at the very end, so that a stop or an error leaves the state of step s - 1.
    ///
    /// # Errors
    /// `Stopped`; [`Halted`] where a loss or gradient is not finite, at a spike that should stop the run, or when too
    /// many were skipped in a row.
    pub fn step(
        &mut self,
        s: u64,
        lr: f64,
        batches: &mut dyn Iterator<Item = Result<Option<PairBatch>>>,
        stop: &Stop,
    ) -> Result<StepOutcome> {
        let beta = self.beta.of_step(s);
        self.optimizer.zero_grad();
        let mut records = StepRecords::default();
        for batch in batches {
            if let Some(batch) = batch? {
                self.micro_batch(&batch, &StepContext { beta }, &mut records).with_context(|| format!("step {s}"))?;
            }
            stop.check()?;
        }
        if records.pairs.is_empty() {
            self.beta.used(beta);
            return Ok(StepOutcome { records, beta, lr, grad_norm: 0.0, spike: false, skipped: true });
        }
        let grads = self.optimizer.gradients(1.0 / records.pairs.len() as f64)?;
        let grad_norm = self.optimizer.grad_norm(&grads).with_context(|| format!("step {s}"))?;
        let spike = self.guard.is_spike(grad_norm);
        if spike && self.on_spike == OnSpike::Stop {
            bail!(Halted::before_update(format!(
                "step {s}: the gradient norm {grad_norm:.3e} left its recent range and train.on_spike = \"stop\"; the weights were not changed. Start another run with a lower optim.lr, or with train.on_spike = \"skip\"."
            )));
        }
        let skipped = spike && self.on_spike == OnSpike::Skip;
        if skipped {
            if self.guard.exhausted() {
                bail!(Halted::too_late(format!(
                    "step {s}: {} spikes in a row were skipped; the last checkpoint is the state to go back to. Start another run with a lower optim.lr.",
                    SpikeGuard::SKIPS_ALLOWED
                )));
            }
            self.guard.skipped();
        } else {
            self.optimizer.step(&grads, grad_norm, lr)?;
            self.guard.taken(grad_norm);
            if let Some(ema) = &mut self.ema {
                ema.update(&self.policy.trainable);
            }
            if let Some(mean_abs_h) = records.mean_abs_h() {
                self.beta.observe(mean_abs_h);
            }
        }
        self.beta.used(beta);
        Ok(StepOutcome { records, beta, lr, grad_norm, spike, skipped })
    }

    fn micro_batch(&mut self, batch: &PairBatch, step: &StepContext, records: &mut StepRecords) -> Result<()> {
        let needs = self.objective.needs();
        let n = batch.ids.len() as i64;
        let noised = self.noise(batch);
        let noised = if needs.loser { noised } else { noised.narrow(0, n) };
        let reference = match needs.reference {
            true => self.reference.errors(&self.policy, &noised)?,
            false => None,
        };
        let theta = noised.errors(&self.policy.denoiser, self.policy.adapters)?;
        let factor = self.epsilon_factor(&noised.timesteps.narrow(0, 0, n));
        let errors = pair_errors(&theta.detach(), reference.as_ref(), n, needs.loser, factor);
        let derivative = differentiate(self.objective.as_ref(), &errors, step)?;
        let new = PairRecord::of_batch(&batch.ids, &noised.timesteps.narrow(0, 0, n), &errors, &derivative)?;
        refuse_not_finite(&new)?;
        backward(&theta, &derivative)?;
        records.pairs.extend(new);
        Ok(())
    }

    /// Noises a batch's rows on the run's device.
    pub fn noise(&self, batch: &PairBatch) -> Noised {
        Noised::new(
            &self.policy.denoiser,
            self.machine,
            &batch.latents,
            &batch.noise,
            &batch.timesteps,
            &batch.conditioning,
        )
    }

    /// `[n]`, master kind: what turns the network's squared errors into those of margins and metrics.
    pub fn epsilon_factor(&self, timesteps: &Tensor) -> Tensor {
        if self.native_errors {
            return Tensor::ones(timesteps.size(), (self.machine.master, self.machine.device));
        }
        self.policy.denoiser.epsilon_factor(timesteps).to_kind(self.machine.master)
    }
}

/// Splits rows (winners first) into the leaves of an objective.
pub fn pair_errors(
    theta: &Tensor,
    reference: Option<&Tensor>,
    n: i64,
    loser: bool,
    epsilon_factor: Tensor,
) -> PairErrors {
    let first = |t: &Tensor| t.narrow(0, 0, n);
    let second = |t: &Tensor| t.narrow(0, n, n);
    PairErrors {
        theta_w: first(theta),
        theta_l: loser.then(|| second(theta)),
        ref_w: reference.map(first),
        ref_l: reference.filter(|_| loser).map(second),
        epsilon_factor,
    }
}

/// Backward through the network from sum_i dL/de_i e_i: exact, since the objective sees nothing but the errors.
fn backward(theta: &Tensor, derivative: &Derivative) -> Result<()> {
    let weights = match &derivative.d_theta_l {
        Some(d_l) => Tensor::cat(&[&derivative.d_theta_w, d_l], 0),
        None => derivative.d_theta_w.shallow_clone(),
    };
    let root = (theta * weights.detach()).sum(None::<Kind>);
    if !root.requires_grad() {
        bail!("no trained tensor took part in the prediction: check lora.targets");
    }
    root.f_backward()?;
    Ok(())
}

fn refuse_not_finite(records: &[PairRecord]) -> Result<()> {
    for r in records {
        let named = [
            ("e_theta(w)", Some(r.theta_w)),
            ("e_theta(l)", r.theta_l),
            ("e_ref(w)", r.ref_w),
            ("e_ref(l)", r.ref_l),
            ("loss", Some(r.loss)),
        ];
        if let Some((name, value)) = named.iter().find_map(|(n, v)| v.filter(|x| !x.is_finite()).map(|x| (n, x))) {
            bail!(Halted::before_update(format!(
                "{name} of pair {} at timestep {} is {value}; the weights were not changed. Look at the pair, or start another run with a lower optim.lr or in float32.",
                r.id, r.timestep
            )));
        }
    }
    Ok(())
}
