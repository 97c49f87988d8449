//! Adafactor (arXiv 1804.04235) as in transformers' `Adafactor` with `scale_parameter=False, relative_step=False`,
//! the form of public SDXL runs (docs/methods.md 20).
//!
//! libtorch has no fused or foreach kernel for it. A foreach of its parts would hold the updates of all tensors at
//! once, as large as the gradients, hence a loop over the tensors.

use super::rule::Rule;
use anyhow::Result;
use tch::{Kind, Tensor};

/// Added to squared gradients: transformers' `eps[0]`.
const EPS: f64 = 1e-30;
/// Largest root mean square of an update; larger ones are scaled down.
const CLIP_THRESHOLD: f64 = 1.0;
/// Decay of the running mean of squares: beta2 = 1 - step^DECAY_RATE.
const DECAY_RATE: f64 = -0.8;

/// The state of one parameter.
struct Slot {
    /// Tensors by the names of [`moments`].
    moments: Vec<(&'static str, Tensor)>,
    /// int64 scalar on the CPU: the steps taken.
    step: Tensor,
}

/// Adafactor without momentum: running means of squared gradients, over rows and columns for tensors with both.
pub struct Adafactor {
    slots: Vec<Slot>,
    weight_decay: f64,
}

/// Names and shapes of a parameter's state: means over either of the last two dimensions, or whole squares below two
/// dimensions. A 3x3 convolution `[o, i, 3, 3]` keeps `[o, i, 3]` twice.
pub fn moments(shape: &[i64]) -> Vec<(&'static str, Vec<i64>)> {
    match shape {
        [outer @ .., rows, columns] => {
            let with = |last: i64| [outer, &[last]].concat();
            vec![("exp_avg_sq_row", with(*rows)), ("exp_avg_sq_col", with(*columns))]
        }
        _ => vec![("exp_avg_sq", shape.to_vec())],
    }
}

impl Adafactor {
    /// Zero moments for `params`.
    pub fn new(params: &[Tensor], weight_decay: f64) -> Self {
        let slot = |p: &Tensor| Slot {
            moments: moments(&p.size())
                .into_iter()
                .map(|(name, shape)| (name, Tensor::zeros(shape, (p.kind(), p.device()))))
                .collect(),
            step: Tensor::zeros([], (Kind::Int64, tch::Device::Cpu)),
        };
        Self { slots: params.iter().map(slot).collect(), weight_decay }
    }
}

impl Rule for Adafactor {
    fn step(&mut self, params: &[Tensor], grads: &[Tensor], lr: f64) -> Result<()> {
        for ((slot, param), grad) in self.slots.iter_mut().zip(params).zip(grads) {
            let update = slot.update(grad) * lr;
            let mut param = param.shallow_clone();
            if self.weight_decay != 0.0 {
                param += &param * (-self.weight_decay * lr);
            }
            param -= update;
        }
        Ok(())
    }

    fn state(&self, i: usize) -> Vec<(&'static str, Tensor)> {
        let slot = &self.slots[i];
        let moments = slot.moments.iter().map(|(name, tensor)| (*name, tensor.shallow_clone()));
        moments.chain([("step", slot.step.shallow_clone())]).collect()
    }
}

impl Slot {
    /// Adds a gradient and returns the step of rate 1: the gradient over the root of its mean square, its own root
    /// mean square at most [`CLIP_THRESHOLD`].
    fn update(&mut self, grad: &Tensor) -> Tensor {
        self.step += 1;
        let beta2 = 1.0 - (self.step.int64_value(&[]) as f64).powf(DECAY_RATE);
        let square = grad.square() + EPS;
        let follow = |moment: &mut Tensor, value: Tensor| {
            let _ = moment.g_mul_scalar_(beta2);
            *moment += value * (1.0 - beta2);
        };
        let mean = |dim: i64| square.mean_dim([dim].as_slice(), false, None::<Kind>);
        let update = match &mut self.moments[..] {
            [(_, row), (_, col)] => {
                follow(row, mean(-1));
                follow(col, mean(-2));
                drop(square);
                // 1 / sqrt(row col / mean(row)): row / mean(row) first, the product of squares would underflow.
                let rows = (&*row / row.mean_dim([-1i64].as_slice(), true, None::<Kind>)).rsqrt().unsqueeze(-1);
                (rows * col.rsqrt().unsqueeze(-2)) * grad
            }
            [(_, whole)] => {
                follow(whole, square);
                whole.rsqrt() * grad
            }
            other => unreachable!("{} moments", other.len()),
        };
        let rms = update.norm() / (update.numel() as f64).sqrt();
        update / (rms / CLIP_THRESHOLD).clamp_min(1.0)
    }
}
