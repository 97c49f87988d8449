//! Averages of the trained weights, and the network under other weights for a while.

use super::copy_into;
use anyhow::Result;
use std::collections::HashMap;
use tch::Tensor;

/// An exponential moving average of the trained weights: ema <- decay ema + (1 - decay) weights.
pub struct Ema {
    decay: f64,
    pub weights: Vec<(String, Tensor)>,
}

impl Ema {
    /// Starts at the weights themselves; `None` when the configuration wants none.
    pub fn new(trainable: &[(String, Tensor)], decay: f64) -> Option<Self> {
        (decay > 0.0)
            .then(|| Self { decay, weights: trainable.iter().map(|(n, t)| (n.clone(), t.detach().copy())).collect() })
    }

    /// Takes in the weights after an unskipped step.
    pub fn update(&mut self, trainable: &[(String, Tensor)]) {
        let _frozen = tch::no_grad_guard();
        for ((_, average), (_, weight)) in self.weights.iter_mut().zip(trainable) {
            let _ = average.lerp_(weight, 1.0 - self.decay);
        }
    }

    /// Takes over stored averages.
    pub fn load(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        self.weights.iter_mut().try_for_each(|(name, t)| copy_into(t, stored, name))
    }
}

/// Puts `values` into the network while it is alive and gives the weights back when dropped.
pub struct Swapped<'a> {
    trainable: &'a [(String, Tensor)],
    own: Vec<Tensor>,
}

impl<'a> Swapped<'a> {
    pub fn new(trainable: &'a [(String, Tensor)], values: &[(String, Tensor)]) -> Self {
        let _frozen = tch::no_grad_guard();
        let own = trainable.iter().map(|(_, t)| t.detach().copy()).collect();
        for ((_, t), (_, value)) in trainable.iter().zip(values) {
            t.shallow_clone().copy_(value);
        }
        Self { trainable, own }
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        let _frozen = tch::no_grad_guard();
        for ((_, t), own) in self.trainable.iter().zip(&self.own) {
            t.shallow_clone().copy_(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_weights_come_back_when_dropped() {
        let trainable = vec![("w".to_string(), Tensor::from_slice(&[1.0f32, 2.0]))];
        let ema = vec![("w".to_string(), Tensor::from_slice(&[5.0f32, 6.0]))];
        {
            let _swapped = Swapped::new(&trainable, &ema);
            assert_eq!(trainable[0].1.double_value(&[0]), 5.0);
        }
        assert_eq!(trainable[0].1.double_value(&[1]), 2.0);
    }
}
