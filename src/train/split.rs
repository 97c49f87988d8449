//! Images of a micro-batch one after the other (`train.pair_split`), so that activations of one image per item are held
//! at a time.
//!
//! A derivative needs the errors of all images. All images but the last therefore go through the policy twice: first
//! without a graph, for their errors, then with one, for their gradients. Every backward pass frees its graph before
//! the next forward pass. Gradients are those of the joint step up to rounding.

use super::forward::Part;
use super::pass::Pass;
use crate::data::batches::BatchItem;
use crate::networks::{Noised, mean_square};
use anyhow::Result;
use tch::{Kind, Tensor};

impl Pass<'_> {
    /// Residuals of the policy without a graph, `[R, C, h, w]`, and the images that they are made of.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn by_image(&self, items: &[BatchItem], noised: &Noised) -> Result<(Tensor, Vec<Part>)> {
        let mut residuals = noised.target.zeros_like();
        let mut parts = Vec::new();
        let images = items.iter().map(|item| item.rows.len()).max().unwrap_or(0);
        for image in 0..images {
            let rows: Vec<i64> = items.iter().filter_map(|item| item.rows.get(image).copied()).collect();
            let of_image = noised.select(&rows);
            let rows = Tensor::from_slice(&rows).to_device(residuals.device());
            let is_last = image + 1 == images;
            let found = {
                let _frozen = (!is_last).then(tch::no_grad_guard);
                self.networks.residuals(&of_image)?
            };
            residuals = residuals.f_index_copy(0, &rows, &found.detach())?;
            parts.push(Part { rows, noised: of_image, theta: is_last.then(|| mean_square(&found)) });
        }
        Ok((residuals, parts))
    }

    /// Scalars whose backward passes, one after the other, give the gradients. `d_theta`: dL/de of all rows.
    pub fn roots_by_image(&self, parts: Vec<Part>, d_theta: Tensor) -> impl Iterator<Item = Result<Tensor>> {
        let networks = self.networks;
        // The last image comes first: its graph is there already.
        parts.into_iter().rev().map(move |part| {
            let theta = match part.theta {
                Some(theta) => theta,
                None => mean_square(&networks.residuals(&part.noised)?),
            };
            Ok((theta * d_theta.f_index_select(0, &part.rows)?).sum(None::<Kind>))
        })
    }
}
