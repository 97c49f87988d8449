//! The interface of every optimizer.

use anyhow::Result;
use tch::Tensor;

/// An update rule with state per parameter, in the order of construction.
pub trait Rule {
    /// One in-place step at rate `lr`. Both lists have the rule's order; no gradient is missing.
    fn step(&mut self, params: &[Tensor], grads: &[Tensor], lr: f64) -> Result<()>;

    /// The state of parameter `i` by its Python names. Writes to the tensors change the state.
    fn state(&self, i: usize) -> Vec<(&'static str, Tensor)>;
}
