//! One model on the pairs: its errors, and their gradients.

use super::ches::{ches, gradients, output_gradient};
use super::request::PairsRequest;
use crate::data::batches::Batch;
use crate::data::items::{ImageRef, Item};
use crate::denoising::{NamedModel, Opened, Options, Space};
use crate::networks::mean_square;
use crate::numbers::mean;
use crate::objectives::numbers;
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use tch::Tensor;

/// A pair by one model: means over the draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Errors of winner and loser in the space of margins.
    pub errors: [f64; 2],
    pub ches_output: f64,
    pub ches_last_layer: f64,
}

/// The pairs by one model.
pub struct OfModel {
    /// One per item; `None`: a picture cannot be read.
    pub pairs: Vec<Option<Measured>>,
    /// Pictures that cannot be read, with the reason.
    pub unreadable: BTreeMap<ImageRef, String>,
    pub space: Space,
}

/// A model in memory.
struct Loaded {
    opened: Opened,
    /// The weight of the last layer.
    last: Tensor,
}

/// The pairs that every model is measured on.
pub struct Task<'a> {
    pub items: &'a [Item],
    pub request: &'a PairsRequest,
    pub progress: &'a dyn Progress,
    pub stop: &'a Stop,
}

impl Task<'_> {
    /// Measures a model on all pairs. `resolution`: that of the first model; `None`: this is the first.
    ///
    /// # Errors
    /// Files that cannot be read, an error that is not finite, [`crate::progress::Stopped`] after a signal.
    pub fn measure(&self, model: &NamedModel, resolution: Option<i64>) -> Result<OfModel> {
        let PairsRequest { draws, device, kind, workers, cache_dir, .. } = self.request;
        let options = Options {
            draws: *draws,
            resolution: resolution.or(self.request.resolution),
            device: *device,
            kind: *kind,
            workers: *workers,
            cache_dir,
        };
        let loaded = Loaded::new(Opened::open(model, self.items, options, self.progress, self.stop)?)?;
        let mut pairs = Vec::new();
        self.progress.begin("validate", 0, self.items.len() as u64);
        for (done, item) in self.items.iter().enumerate() {
            self.stop.check()?;
            let batch = loaded.opened.batch(item)?;
            pairs.push(batch.map(|batch| loaded.pair(&model.name, &batch)).transpose()?);
            self.progress.advance(done as u64 + 1, &model.name);
        }
        self.progress.end();
        let unreadable = loaded.opened.unreadable().clone();
        Ok(OfModel { pairs, unreadable, space: loaded.opened.space })
    }
}

impl Loaded {
    fn new(opened: Opened) -> Result<Self> {
        let network = &opened.denoiser.network;
        let name = network.architecture().output_layer();
        let last = network.named_parameters().into_iter().find(|(parameter, _)| parameter == name);
        // The graph begins here: a backward pass is one of the last layer alone.
        let last = last.with_context(|| format!("the network has no {name}"))?.1.set_requires_grad(true);
        Ok(Self { opened, last })
    }

    /// `batch`: all draws of one pair, an item each.
    fn pair(&self, model: &str, batch: &Batch) -> Result<Measured> {
        let noised = self.opened.noised(batch);
        let residuals = noised.residuals(&self.opened.denoiser, self.opened.adapters)?;
        let errors = mean_square(&residuals);
        let of_margins = numbers(&self.opened.of_margins(&errors, &noised.levels));
        let gradients = gradients(&errors, &self.last)?;
        let mut draws = Vec::new();
        for item in &batch.items {
            let (Some(w), Some(l)) = (item.rows.first().copied(), item.rows.get(1).copied()) else {
                bail!("pair {}: expected two pictures", item.id);
            };
            let (w_at, l_at) = (w as usize, l as usize);
            let errors = [of_margins[w_at], of_margins[l_at]];
            if let Some(error) = errors.iter().find(|error| !error.is_finite()) {
                bail!(
                    "the error of {model:?} on pair {} at timestep {} is {error}; look at the pair, or at the weights",
                    item.id,
                    item.level
                );
            }
            let output = |row: i64| output_gradient(&residuals.get(row));
            draws.push(Measured {
                errors,
                ches_output: ches(&output(w), &output(l)),
                ches_last_layer: ches(&gradients[w_at], &gradients[l_at]),
            });
        }
        let over_draws = |of: fn(&Measured) -> f64| mean(draws.iter().map(of)).context("a pair without draws");
        Ok(Measured {
            errors: [over_draws(|m| m.errors[0])?, over_draws(|m| m.errors[1])?],
            ches_output: over_draws(|m| m.ches_output)?,
            ches_last_layer: over_draws(|m| m.ches_last_layer)?,
        })
    }
}
