//! Samplers whose steps are draws from normal distributions, for methods that train on their own trajectories.

use super::sampler::{Prediction, Sampler};
use tch::{Kind, Tensor};

/// p(x_p | x_t) of rows at calls of their own: `mean` `[B, C, h, w]`, `std` `[B]` float64, on the device of `mean`.
#[derive(Debug)]
pub struct Transitions {
    pub mean: Tensor,
    pub std: Tensor,
}

/// A sampler without state, so that rows may be at different calls.
pub trait StochasticSampler: Sampler + std::fmt::Debug {
    /// Distribution of row i of prediction and `latents` `[B, C, h, w]` after call `calls[i]`.
    ///
    /// In float64 if both are, in float32 for half precision.
    ///
    /// # Panics
    /// On a call outside this sampler, or a number of calls other than that of the rows: calls come from a rollout,
    /// not from a user.
    fn transitions(&self, calls: &[usize], prediction: &Prediction, latents: &Tensor) -> Transitions;

    /// The x_0 of `prediction` for latents `[B, C, h, w]` at call number `call`: their posterior mean (Tweedie).
    fn x0(&self, call: usize, prediction: &Prediction, latents: &Tensor) -> Tensor;

    /// Whether call number `call` adds noise for eta above 0. Only the last may add none.
    fn adds_noise(&self, call: usize) -> bool;

    /// Number of calls with noise.
    fn noisy_calls(&self) -> usize {
        (0..self.timesteps().len()).filter(|call| self.adds_noise(*call)).count()
    }
}

/// log p(`next` | x_t) of transitions N(`mean`, `std`^2), `[B]` float64: the mean over C, H, W of every row, for
/// methods that train on transitions (docs/methods.md, section 10). `mean` and `next` `[B, C, h, w]`, `std` `[B]`.
///
/// Not valid for `std` 0 (eta 0): such a step has no density, and the result is not finite.
pub fn log_prob(mean: &Tensor, std: &Tensor, next: &Tensor) -> Tensor {
    let std = std.to_kind(Kind::Double);
    let distance = (next.to_kind(Kind::Double) - mean.to_kind(Kind::Double)) / std.view([-1, 1, 1, 1]);
    let square = distance.square().flatten(1, -1).mean_dim([1i64].as_slice(), false, Kind::Double);
    square * -0.5 - std.log() - 0.5 * std::f64::consts::TAU.ln()
}
