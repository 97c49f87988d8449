//! A micro-batch of transitions: the policy's log-probabilities against those they are compared with, the objective, and
//! the backward pass (docs/methods.md, section 10).

use super::forward::backward;
use super::step::Learner;
use crate::metrics::{mean, put, wins};
use crate::networks::mean_square;
use crate::objectives::{Ratios, Step, StepEvaluation, evaluate_units, numbers};
use crate::progress::Halted;
use crate::rollout::UnitBatch;
use anyhow::{Context, Result, bail};
use pipelines::schedulers::log_prob;
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

/// What units say of a step, for its metrics line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnitRecords {
    /// r of every transition read.
    pub r: Vec<f64>,
    pub logits: Vec<f64>,
    /// Mean squared distance of predictions from the start model's.
    pub drift: Vec<f64>,
    /// Transitions whose gradient a clamp took, of those read.
    pub clamped: usize,
    pub read: usize,
}

impl UnitRecords {
    /// Takes in a micro-batch.
    pub fn add(&mut self, other: Self) {
        self.r.extend(other.r);
        self.logits.extend(other.logits);
        self.drift.extend(other.drift);
        self.clamped += other.clamped;
        self.read += other.read;
    }

    /// The keys of metrics.jsonl; nothing where no units were trained on.
    pub fn write(&self, into: &mut Map<String, Value>) {
        let of = |values: &[f64], f: &dyn Fn(f64) -> f64| mean(&values.iter().map(|x| f(*x)).collect::<Vec<_>>());
        put(into, "implicit_acc", of(&self.logits, &wins));
        put(into, "gradient_factor", of(&self.logits, &|u| 1.0 / (1.0 + u.exp())));
        put(into, "log_ratio", of(&self.r, &|r| r));
        put(into, "approx_kl", of(&self.r, &|r| 0.5 * r * r));
        put(into, "noise_pred_drift", mean(&self.drift));
        put(into, "clamped_fraction", (self.read > 0).then(|| self.clamped as f64 / self.read as f64));
    }
}

impl Learner {
    /// Sends units through the policy and backward. Returns the losses and what the metrics need.
    pub fn train_units(&self, batch: &UnitBatch, step: &Step) -> Result<(Vec<f64>, UnitRecords)> {
        let method = self.objective.of_units().context("the method has no loss of transitions")?;
        let device = self.networks.machine.device;
        let asked = batch.sampling.asked(&self.networks);
        let latents = batch.latents.to_device(device);
        let at = batch.at(&latents);
        let noise_pred = asked.policy(&at)?;
        let transitions = asked.transitions(&at, &noise_pred);
        let states = Tensor::from_slice(&batch.states).to_device(device);
        let of_state = |t: &Tensor| t.index_select(0, &states);
        let next = batch.next.to_device(device).to_kind(Kind::Double);
        let own = log_prob(&of_state(&transitions.mean), &of_state(&transitions.std), &next);
        let r = own - Tensor::from_slice(&batch.log_prob).to_device(device);
        let drift = batch
            .start
            .as_ref()
            .map(|start| mean_square(&(of_state(&noise_pred) - start.to_device(device).to_kind(Kind::Double))));
        let ratios = Ratios { units: batch.units.clone(), r: r.detach(), drift: drift.as_ref().map(Tensor::detach) };
        let evaluation = evaluate_units(method, &ratios, step)?;
        refuse_not_finite(batch, &ratios, &evaluation)?;
        let mut root = (&r * &evaluation.d_r).sum(Kind::Double);
        if let (Some(drift), Some(d)) = (&drift, &evaluation.d_drift) {
            root += (drift * d).sum(Kind::Double);
        }
        backward(&root)?;
        // A row that is read twice counts twice, whichever micro-batches its readers are in.
        let read = |t: &Tensor| {
            let values = numbers(t);
            let rows = ratios.units.iter().flat_map(|unit| unit.members.iter().flatten());
            rows.map(|row| values[*row as usize]).collect()
        };
        let records = UnitRecords {
            r: read(&ratios.r),
            logits: evaluation.logits.unwrap_or_default(),
            drift: ratios.drift.as_ref().map(read).unwrap_or_default(),
            clamped: evaluation.clamped.0,
            read: evaluation.clamped.1,
        };
        Ok((evaluation.losses, records))
    }
}

/// A loss or a log-ratio that is not finite ends the run before its weights are touched.
fn refuse_not_finite(batch: &UnitBatch, ratios: &Ratios, evaluation: &StepEvaluation) -> Result<()> {
    let r = numbers(&ratios.r);
    for (unit, loss) in batch.units.iter().zip(&evaluation.losses) {
        let rows = unit.members.iter().flatten();
        let wrong =
            rows.map(|row| ("log-ratio", r[*row as usize])).chain([("loss", *loss)]).find(|(_, x)| !x.is_finite());
        if let Some((name, value)) = wrong {
            bail!(Halted::before_update(format!(
                "{name} of {} at timestep {} is {value}; the weights were not changed. Start another run with a lower optim.lr or in float32.",
                unit.id,
                batch.level(unit)
            )));
        }
    }
    Ok(())
}
