//! The head that LAION's predictor v2 and ImageReward share: five linear layers without an activation between them.

use pipelines::models::Linear;
use pipelines::weights::Loader;
use tch::Tensor;

/// Names and widths of the layers; the dropout between them has no weights.
pub const LAYERS: [(&str, i64); 5] =
    [("layers.0", 1024), ("layers.2", 128), ("layers.4", 64), ("layers.6", 16), ("layers.7", 1)];

/// Linear layers, one after the other, to one number.
#[derive(Debug)]
pub struct LinearChain(pub Vec<Linear>);

impl LinearChain {
    /// The five layers for features of width `width`.
    pub fn load(from: &Loader, width: i64) -> Self {
        let inputs = std::iter::once(width).chain(LAYERS.map(|(_, outputs)| outputs));
        let layer =
            |((name, outputs), inputs): ((&str, i64), i64)| Linear::load(&from.sub(name), inputs, outputs, true);
        Self(LAYERS.into_iter().zip(inputs).map(layer).collect())
    }

    /// `[n, P] -> [n]` in the type of `x`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let _frozen = tch::no_grad_guard();
        self.0.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x, None)).squeeze_dim(-1)
    }
}
