//! Loss weights that follow from the data: one factor a pair, known before training (docs/methods.md, section 0.7).

use super::items::Item;
use anyhow::{Result, bail};

/// `[weights] source`
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightSource {
    /// The row's `weight`, 1 where it has none.
    Column,
    /// (c / q)^b with q the row's `weight`, 1 where it has none (docs/methods.md, section 15).
    VideoDpo { b: f64, c: f64 },
}

/// `[weights]`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighting {
    pub source: WeightSource,
    /// Factors as they are; else each is divided by the mean over the training set, which leaves the learning rate its
    /// meaning.
    pub as_published: bool,
}

impl Weighting {
    /// The factor of each training item, in their order.
    ///
    /// # Errors
    /// A `weight` that the formula cannot take, or weights that are all 0: the text names the first such item.
    pub fn factors(&self, items: &[Item]) -> Result<Vec<f64>> {
        let factors = items.iter().map(|item| self.published(item)).collect::<Result<Vec<f64>>>()?;
        if self.as_published || factors.is_empty() {
            return Ok(factors);
        }
        let mean = factors.iter().sum::<f64>() / factors.len() as f64;
        if mean == 0.0 || !mean.is_finite() {
            bail!(
                "[weights]: the mean weight of the {} training pairs is {mean}, expected a number above 0 to divide \
                 by; give `weight` of the rows other values, or set weights.as_published = true",
                factors.len()
            );
        }
        Ok(factors.into_iter().map(|factor| factor / mean).collect())
    }

    fn published(&self, item: &Item) -> Result<f64> {
        let weight = item.weight.unwrap_or(1.0);
        let factor = match self.source {
            WeightSource::Column => weight,
            WeightSource::VideoDpo { b, c } => (c / weight).powf(b),
        };
        if !factor.is_finite() || (weight <= 0.0 && self.source != WeightSource::Column) {
            bail!(
                "[weights]: the pair \"{}\" has `weight` {weight}, expected a number above 0 that (c / weight)^b is \
                 finite for; correct the row, or set weights.source = \"column\"",
                item.id
            );
        }
        Ok(factor)
    }
}
