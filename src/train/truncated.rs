//! A micro-batch of truncated rollouts: the policy's own prediction against theirs (docs/methods.md, section 7).

use super::forward::backward;
use super::step::Learner;
use crate::data::batches::Batch;
use crate::networks::Truncating;
use crate::objectives::{Objective, numbers};
use crate::progress::Halted;
use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

impl Learner {
    /// Rollouts by the averaged model, and the policy's own prediction against theirs: forward and backward. Returns the
    /// losses, one per row.
    pub fn train_truncated(&self, truncating: &Truncating, batch: &Batch) -> Result<Vec<f64>> {
        let Objective::Residuals(method) = &self.objective else {
            bail!("the method has no loss of predicted pictures")
        };
        let average = self.ema.as_ref().context("truncated rollouts are made by averaged weights")?;
        let (rollout, residuals) = truncating.residuals(&self.networks, &average.weights, batch)?;
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
        backward(&(&residuals * grads[0].detach()).sum(None::<Kind>))?;
        Ok(values)
    }
}
