//! A micro-batch of transitions: log-probabilities of the policy against those of the other policy (docs/methods.md,
//! section 10).

use super::partial::{Partial, Terms, Values};
use super::pass::Pass;
use super::records::{StepRecords, UnitRecords};
use crate::networks::mean_square;
use crate::objectives::{Ratios, StepDrift, StepEvaluation, evaluate_units, numbers};
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
        let (mean, std) = (of_state(&transitions.mean), of_state(&transitions.std));
        let own = log_prob(&mean, &std, &next);
        let log_ratio = own - Tensor::from_slice(&batch.log_prob).to_device(device);
        let r = match &batch.mean {
            Some(old) => normed(&log_ratio, &(&mean - old.to_device(device).to_kind(Kind::Double)), &std),
            None => log_ratio,
        };
        let kind = self.criterion.needs.rollouts.and_then(|rollouts| rollouts.drift);
        let drift = batch.start.as_ref().zip(kind).map(|(start, kind)| {
            let start = start.to_device(device).to_kind(Kind::Double);
            match kind {
                StepDrift::Prediction => mean_square(&(of_state(&noise_pred) - start)),
                StepDrift::Mean => mean_square(&(&mean - batch.means(&asked, &latents, &start))) / (std.square() * 2.0),
            }
        });
        let ratios = Ratios { units: batch.units.clone(), r: r.detach(), drift: drift.as_ref().map(Tensor::detach) };
        let evaluation = evaluate_units(method, &ratios, &terms.step)?;
        refuse_not_finite(batch, &ratios, &evaluation)?;
        let mut root = (&r * &evaluation.d_r).sum(Kind::Double);
        if let (Some(drift), Some(d)) = (&drift, &evaluation.d_drift) {
            root += (drift * d).sum(Kind::Double);
        }
        // A row read twice counts twice, whichever micro-batches read it.
        let read = |t: &Tensor| -> Vec<f64> {
            let values = numbers(t);
            let rows = ratios.units.iter().flat_map(|unit| unit.members.iter().flatten());
            rows.map(|row| values[*row as usize]).collect()
        };
        let drift_of = |wanted: StepDrift| match (&ratios.drift, kind == Some(wanted)) {
            (Some(drift), true) => read(drift),
            _ => Vec::new(),
        };
        let records = UnitRecords {
            r: read(&ratios.r),
            logits: evaluation.logits.unwrap_or_default(),
            drift: drift_of(StepDrift::Prediction),
            start_kl: drift_of(StepDrift::Mean),
            clamped: evaluation.clamped.0,
            read: evaluation.clamped.1,
        };
        let records = StepRecords::of_units(&evaluation.losses, records);
        Ok(Partial::joint(root, *terms, records, Values::default()))
    }
}

/// sigma (r + mean d^2 / (2 sigma^2)) of log-ratios r `[M]`: d = mu_theta - mu_old `[M, C, h, w]`, sigma = `std` `[M]`.
fn normed(r: &Tensor, d: &Tensor, std: &Tensor) -> Tensor {
    std * (r + mean_square(d) / (std.square() * 2.0))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/methods.md 21.9
    #[test]
    fn a_normed_ratio_is_the_mean_of_the_moved_mean_times_the_noise() {
        let row = |values: [f64; 2]| Tensor::from_slice(&values).reshape([1, 1, 1, 2]);
        let (old, new) = (row([0.963267, -0.546955]), row([0.964, -0.549]));
        let (next, std) = (row([1.332593, -1.127325]), Tensor::from_slice(&[0.527609]));
        let r = log_prob(&new, &std, &next) - log_prob(&old, &std, &next);
        assert!((r.double_value(&[0]) - 0.00261380).abs() < 1e-8, "{r}");
        let found = normed(&r, &(&new - &old), &std).double_value(&[0]);
        assert!((found - 0.00138130).abs() < 1e-8, "{found}");
        let z = (&next - &old) / 0.527609;
        let direct = ((&new - &old) * z).mean(Kind::Double).double_value(&[]);
        assert!((found - direct).abs() < 1e-15, "{found} is not {direct}");
    }
}
