//! Parts that heads share: the choice between two pictures, bins of a share, drawn start values.

use crate::data::draws;
use diffpref_native::Generator;
use std::fmt::Display;
use tch::{Kind, Tensor};

/// -log sigmoid(x), elementwise.
pub fn minus_log_sigmoid(x: &Tensor) -> Tensor {
    -x.log_sigmoid()
}

/// Cross-entropy of the share `y` of the first picture with softmax over two logits that differ by `d`; both `[B]`.
pub fn cross_entropy(d: &Tensor, y: &Tensor) -> Tensor {
    y * minus_log_sigmoid(d) + (1.0 - y) * minus_log_sigmoid(&-d)
}

/// Entropy of the share `y` in nats, `[B]`: 0 at 0 and 1, ln 2 at 0.5.
pub fn entropy(y: &Tensor) -> Tensor {
    let other: Tensor = 1.0 - y;
    -(y.xlogy(y) + other.xlogy(&other))
}

/// Sum over the last dimension.
pub fn sum_last(x: &Tensor) -> Tensor {
    x.sum_dim_intlist([-1].as_slice(), false, None::<Kind>)
}

/// Length over the last dimension; its gradient at zero is zero.
pub fn length(x: &Tensor) -> Tensor {
    sum_last(&x.square()).clamp_min(1e-24).sqrt()
}

/// Normal start values of a named tensor, `torch.randn(shape) * std`, of the stream `head`.
pub fn drawn(seed: u64, name: &dyn Display, shape: &[i64], std: f64) -> Tensor {
    Generator::cpu(draws::key(seed, "head", &[name])).randn(shape) * std
}

/// Both outputs of pairs `[B, 2, C]` as `[B, C]` each.
pub fn both(pairs: &Tensor) -> (Tensor, Tensor) {
    (pairs.select(1, 0), pairs.select(1, 1))
}
