//! Loss weights that follow from the data: one factor per pair, known before training (docs/methods.md, section 0.7).

use super::item::Item;
use anyhow::{Result, bail};

/// `[weights] source`
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightSource {
    /// The row's `weight`, by default 1.
    Column,
    /// (c / q)^b with q the row's `weight`, by default 1 (docs/methods.md, section 15).
    VideoDpo { b: f64, c: f64 },
}

/// `[weights]`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighting {
    pub source: WeightSource,
    /// Factors are used as they are. Otherwise each is divided by the mean over the training set, which keeps the
    /// scale of the learning rate.
    pub as_published: bool,
}

impl Weighting {
    /// The factor of each training item, in order.
    ///
    /// # Errors
    /// A `weight` outside the formula's range, or weights that are all 0. The text names the first such item.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::item::Preference;

    fn items(weights: &[Option<f64>]) -> Vec<Item> {
        let item = |(i, weight): (usize, &Option<f64>)| Item {
            id: format!("p{i}"),
            prompt: "".into(),
            images: vec!["w".into(), "l".into()],
            preference: Preference::Pair { tie: false },
            weight: *weight,
            user: None,
            labels: Default::default(),
            share: None,
            strength: None,
            scores: Default::default(),
            row: i,
        };
        weights.iter().enumerate().map(item).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} is not {expected:?}");
    }

    #[test]
    fn factors_are_those_of_the_fixtures() {
        // docs/methods.md 21.7: weights (.5, 1, 3.5), losses (.9, .6, .2)
        let items = items(&[Some(0.5), None, Some(3.5)]);
        let loss = |as_published| {
            let factors = Weighting { source: WeightSource::Column, as_published }.factors(&items).unwrap();
            factors.iter().zip([0.9, 0.6, 0.2]).map(|(f, l)| f * l).sum::<f64>() / 3.0
        };
        close(&[loss(true), loss(false)], &[0.583333333333333, 0.35]);
    }

    #[test]
    fn videodpo_divides_by_the_weight() {
        // docs/methods.md 21.6: q = .36 doubles the loss
        let source = WeightSource::VideoDpo { b: 1.0, c: 0.72 };
        let items = items(&[Some(0.36), None, Some(0.72)]);
        close(&Weighting { source, as_published: true }.factors(&items).unwrap(), &[2.0, 0.72, 1.0]);
        let normalised = Weighting { source, as_published: false }.factors(&items).unwrap();
        close(&[normalised.iter().sum::<f64>() / 3.0, normalised[0] / normalised[2]], &[1.0, 2.0]);
        let square = WeightSource::VideoDpo { b: 2.0, c: 0.72 };
        close(&Weighting { source: square, as_published: true }.factors(&items).unwrap(), &[4.0, 0.5184, 1.0]);
    }

    #[test]
    fn weights_that_the_formula_cannot_take_are_refused_with_the_pair() {
        let refusal = |source, weights: &[Option<f64>]| {
            Weighting { source, as_published: false }.factors(&items(weights)).unwrap_err().to_string()
        };
        let said = refusal(WeightSource::VideoDpo { b: 1.0, c: 0.72 }, &[None, Some(0.0)]);
        assert!(said.contains("the pair \"p1\" has `weight` 0, expected a number above 0"), "{said}");
        let said = refusal(WeightSource::VideoDpo { b: 2.0, c: 0.72 }, &[Some(1e-300)]);
        assert!(said.contains("the pair \"p0\" has `weight` 0.0000"), "{said}");
        let said = refusal(WeightSource::Column, &[Some(0.0), Some(0.0)]);
        assert!(said.contains("the mean weight of the 2 training pairs is 0, expected a number above 0"), "{said}");
    }
}
