//! A micro-batch of truncated rollouts: the policy's own prediction against theirs (docs/methods.md, section 7).

use super::partial::{Partial, Terms, Values};
use super::pass::Pass;
use super::records::{StepRecords, UnitRecords};
use crate::data::batches::Batch;
use crate::networks::Truncating;
use crate::objectives::{Objective, numbers};
use crate::progress::Halted;
use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

impl Pass<'_> {
    /// Rollouts by the averaged policy, its own prediction against theirs, losses and their derivatives.
    ///
    /// # Errors
    /// [`Halted`] for a loss that is not finite; errors of the networks.
    pub fn truncated(&self, truncating: &Truncating, batch: &Batch, terms: &Terms) -> Result<Partial<'static>> {
        let Objective::Residuals(method) = &self.criterion.objective else {
            bail!("the method has no loss of predicted pictures")
        };
        let average = self.average.context("truncated rollouts are made by averaged weights")?;
        let (rollout, residuals) = truncating.residuals(self.networks, average, batch)?;
        let leaf = residuals.detach().set_requires_grad(true);
        let losses = method.losses(&leaf);
        let values = numbers(&losses);
        if let Some(row) = values.iter().position(|loss| !loss.is_finite()) {
            let id =
                batch.items.iter().find(|item| item.rows.contains(&(row as i64))).map_or("?", |item| item.id.as_str());
            bail!(Halted::before_update(format!(
                "loss of {id} at timestep {} is {}; the weights were not changed. Start another run with a lower optim.lr or in float32.",
                rollout.levels[row], values[row]
            )));
        }
        let grads = Tensor::f_run_backward(&[losses.sum(losses.kind())], &[&leaf], false, false)?;
        let root = (&residuals * grads[0].detach()).sum(None::<Kind>);
        let records = StepRecords::of_units(&values, UnitRecords::default());
        Ok(Partial::joint(root, *terms, records, Values::default()))
    }
}
