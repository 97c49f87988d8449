//! Averages of the trained weights of a run.

use crate::networks::copy_into;
use anyhow::Result;
use std::collections::HashMap;
use tch::Tensor;

/// An exponential moving average of the trained weights: ema <- decay ema + (1 - decay) weights.
pub struct Ema {
    decay: f64,
    pub weights: Vec<(String, Tensor)>,
}

impl Ema {
    /// Starts at the weights; `None` without EMA in the configuration.
    pub fn new(trainable: &[(String, Tensor)], decay: f64) -> Option<Self> {
        (decay > 0.0)
            .then(|| Self { decay, weights: trainable.iter().map(|(n, t)| (n.clone(), t.detach().copy())).collect() })
    }

    /// Adds the weights after an unskipped step.
    pub fn update(&mut self, trainable: &[(String, Tensor)]) {
        let _frozen = tch::no_grad_guard();
        for ((_, average), (_, weight)) in self.weights.iter_mut().zip(trainable) {
            let _ = average.lerp_(weight, 1.0 - self.decay);
        }
    }

    /// Restores stored averages.
    pub fn load(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        self.weights.iter_mut().try_for_each(|(name, t)| copy_into(t, stored, name))
    }
}
