//! What every optimizer answers.

use anyhow::Result;
use tch::Tensor;

/// How parameters follow their gradients. A rule has state for each parameter, in the order it was made with.
pub trait Rule {
    /// One step in place at rate `lr`. Both lists are in the rule's order; no gradient is missing.
    fn step(&mut self, params: &[Tensor], grads: &[Tensor], lr: f64) -> Result<()>;

    /// The state of parameter `i` by the names that Python gives it. Writes to the tensors change the state.
    fn state(&self, i: usize) -> Vec<(&'static str, Tensor)>;
}
