//! The interface of every reference.

use super::super::noised::{Noised, mean_square};
use super::super::policy::Policy;
use crate::data::batches::Batch;
use anyhow::{Context, Result};
use pipelines::families::Denoiser;
use pipelines::models::AdapterSet;
use tch::Tensor;

/// Errors of a reference at the noisy latents of a batch.
pub struct Measured {
    /// `[R]`, master kind
    pub errors: Tensor,
    /// Prediction minus target, `[R, C, h, w]`, type of the master weights; `None` if only errors are needed.
    pub residuals: Option<Tensor>,
}

/// A reference policy, without gradients.
pub trait Reference {
    /// Errors at `noised`, the noisy latents of `batch`. `residuals`: whether to include them.
    ///
    /// # Errors
    /// Errors of the network.
    fn errors(&self, policy: &Policy, _batch: &Batch, noised: &Noised, residuals: bool) -> Result<Measured> {
        let found = self.residuals(policy, noised)?;
        Ok(Measured { errors: mean_square(&found), residuals: residuals.then_some(found) })
    }

    /// [`errors`](Self::errors) of one held-out item with all its draws, which are equal in every run.
    ///
    /// # Errors
    /// Errors of the network.
    fn held_out_errors(&self, policy: &Policy, batch: &Batch, noised: &Noised, residuals: bool) -> Result<Measured> {
        self.errors(policy, batch, noised, residuals)
    }

    /// Prediction minus target, `[R, C, h, w]`.
    ///
    /// # Errors
    /// Errors of the network; a reference without a network.
    fn residuals(&self, policy: &Policy, noised: &Noised) -> Result<Tensor> {
        let _frozen = tch::no_grad_guard();
        let (denoiser, adapters) = self.network(policy).context("the reference has no network to predict with")?;
        noised.residuals(denoiser, adapters)
    }

    /// Its network with the adapters for prediction; `None` for a reference of stored errors.
    fn network<'a>(&'a self, policy: &'a Policy) -> Option<(&'a Denoiser, Option<AdapterSet>)>;

    /// Its own network, if any.
    fn into_network(self: Box<Self>) -> Option<Denoiser> {
        None
    }

    /// Tensors of the reference alone, by name.
    fn own_tensors(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}
