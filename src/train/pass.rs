//! A micro-batch through policy and reference.

use super::criterion::Criterion;
use super::forward::Forward;
use crate::data::batches::{Batch, image_of_each};
use crate::networks::{Inverting, Networks, Noised, Truncating, mean_product, mean_square};
use crate::objectives::{Drift, Errors, numbers};
use anyhow::{Context, Result, bail};
use pipelines::Conditioning;
use pipelines::conditioning::{POOLED_PROMPT_EMBEDS, PROMPT_EMBEDS};
use tch::Tensor;

/// Source of the noisy latents of items.
pub enum Latents {
    /// Added noise.
    Noised,
    Inverted(Inverting),
    /// Truncated rollouts, with their own targets.
    Truncated(Truncating),
}

/// Inputs of a micro-batch. Constant while micro-batches are computed.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    pub networks: &'a Networks,
    pub criterion: &'a Criterion,
    pub latents: &'a Latents,
    /// Average of the trained tensors by name, if any.
    pub average: Option<&'a [(String, Tensor)]>,
    /// Training takes the images of an item one after the other.
    pub split: bool,
}

impl Pass<'_> {
    /// Forward pass of a micro-batch through policy and reference. Without gradients if the caller holds a guard.
    pub fn forward(&self, batch: &Batch, measure_reference: bool) -> Result<Forward> {
        Pass { split: false, ..*self }.trained(batch, measure_reference)
    }

    /// [`forward`](Self::forward) for a backward pass, which may take image by image.
    pub fn trained(&self, batch: &Batch, measure_reference: bool) -> Result<Forward> {
        let Latents::Inverted(inverting) = self.latents else {
            return self.compare(batch, &self.networks.noise(batch), measure_reference).map(|(forward, _)| forward);
        };
        let inverted = inverting.invert(self.networks, batch)?;
        let (forward, residuals) = self.compare(batch, &inverted.noised, measure_reference)?;
        Ok(Forward { inversion: Some(inverted.watch(&residuals)), ..forward })
    }

    /// Policy and reference at noisy latents; also the policy's residuals, `[R, C, h, w]`.
    fn compare(&self, batch: &Batch, noised: &Noised, measure_reference: bool) -> Result<(Forward, Tensor)> {
        let reference = match self.criterion.needs.reference {
            true => self.networks.reference_errors(batch, noised, self.criterion.needs.drift)?,
            false => None,
        };
        let (residuals, parts) = match self.split {
            true => self.by_image(&batch.items, noised).map(|(residuals, parts)| (residuals, Some(parts)))?,
            false => (self.networks.residuals(noised)?, None),
        };
        let (reference_errors, reference) = reference.map_or((None, None), |m| (Some(m.errors), m.residuals));
        let divergence = match (&reference_errors, measure_reference) {
            (Some(errors), true) => self.divergence(batch, noised, errors)?,
            _ => Vec::new(),
        };
        let forward = self.summarise(batch, noised, &residuals, reference.as_ref(), reference_errors)?;
        Ok((Forward { divergence, parts, ..forward }, residuals))
    }

    /// Errors of an objective from the residuals `[R, C, h, w]` of policy and reference.
    pub fn summarise(
        &self,
        batch: &Batch,
        noised: &Noised,
        residuals: &Tensor,
        reference: Option<&Tensor>,
        reference_errors: Option<Tensor>,
    ) -> Result<Forward> {
        let theta = mean_square(residuals);
        let image = |values: &Tensor, k: usize| image_of_each(&batch.items, values, k);
        let drift = match (reference, self.criterion.needs.drift) {
            (Some(reference), true) => image(residuals, 0).zip(image(reference, 0)).map(|(own, other)| {
                let d = &own - other;
                Drift { square: mean_square(&d), pull: mean_product(&own, &d) }
            }),
            _ => None,
        };
        let product = match (self.criterion.safeguard, image(&residuals.detach(), 0), image(&residuals.detach(), 1)) {
            (Some(_), Some(w), Some(l)) => Some(mean_product(&w, &l)),
            _ => None,
        };
        let detached = |d: &Drift| Drift { square: d.square.detach(), pull: d.pull.detach() };
        let prompts = match self.criterion.needs.prompts {
            true => image(&embeddings(&batch.conditioning)?.to_device(theta.device()).to_kind(theta.kind()), 0),
            false => None,
        };
        let errors = Errors {
            items: batch.items.clone(),
            range: self.networks.process().range(),
            prompts,
            theta: theta.detach(),
            reference: reference_errors,
            drift: drift.as_ref().map(detached),
            epsilon_factor: self.criterion.epsilon_factor(self.networks, noised),
            lambda: self.criterion.lambda(self.networks, &noised.levels),
        };
        let numel = residuals.size()[1..].iter().product();
        Ok(Forward { theta, parts: None, drift, errors, product, divergence: Vec::new(), inversion: None, numel })
    }

    /// e_ref - e_start of the best image of every item (for a label: if it is desirable).
    fn divergence(&self, batch: &Batch, noised: &Noised, reference_errors: &Tensor) -> Result<Vec<f64>> {
        let rows: Vec<i64> = batch.items.iter().filter_map(|item| item.best_row()).collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let preferred = noised.select(&rows);
        let Some(start) = self.networks.start_errors(batch, &preferred, false)? else {
            bail!("the start model is not available to measure the reference against");
        };
        let index = Tensor::from_slice(&rows).to_device(reference_errors.device());
        let gained = reference_errors.index_select(0, &index) - start.errors;
        Ok(numbers(&(gained * self.criterion.epsilon_factor(self.networks, &preferred))))
    }
}

/// One embedding per row, `[R, D]`: the pooled one, or that of the last token, which has attended to the whole prompt.
fn embeddings(conditioning: &Conditioning) -> Result<Tensor> {
    let last_token = || conditioning.get(PROMPT_EMBEDS).map(|tokens| tokens.select(1, -1));
    let found = conditioning.get(POOLED_PROMPT_EMBEDS).map(Tensor::shallow_clone).or_else(last_token);
    found.context("the model has no embedding of the prompt")
}
