//! A micro-batch of transitions: log-probabilities of the policy against those of the other policy (docs/methods.md,
//! section 10).

use super::partial::{Partial, Terms, Values};
use super::pass::Pass;
use super::records::{StepRecords, UnitRecords};
use crate::networks::mean_square;
use crate::objectives::{Ratios, StepEvaluation, evaluate_units, numbers};
use crate::progress::Halted;
use crate::rollout::UnitBatch;
use anyhow::{Context, Result, bail};
use pipelines::schedulers::log_prob;
use tch::{Kind, Tensor};

impl Pass<'_> {
    /// Log-ratios, losses and their derivatives.
    ///
    /// # Errors
    /// [`Halted`] for a loss or a log-ratio that is not finite; errors of the networks.
    pub fn units(&self, batch: &UnitBatch, terms: &Terms) -> Result<Partial<'static>> {
        let method = self.criterion.objective.of_units().context("the method has no loss of transitions")?;
        let device = self.networks.machine.device;
        let asked = batch.sampling.asked(self.networks);
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
        let evaluation = evaluate_units(method, &ratios, &terms.step)?;
        refuse_not_finite(batch, &ratios, &evaluation)?;
        let mut root = (&r * &evaluation.d_r).sum(Kind::Double);
        if let (Some(drift), Some(d)) = (&drift, &evaluation.d_drift) {
            root += (drift * d).sum(Kind::Double);
        }
        // A row read twice counts twice, whichever micro-batches read it.
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
        let records = StepRecords::of_units(&evaluation.losses, records);
        Ok(Partial::joint(root, *terms, records, Values::default()))
    }
}

/// A loss or a log-ratio that is not finite ends the run before its weights change.
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
