//! lambda(t) of timestep-aware training: "Rethinking Direct Preference Optimization in Diffusion Models", arXiv 2505.18736
//! (docs/methods.md, section 2b). It multiplies the logit, most at high noise.
//!
//! ```text
//! lambda(t) = 1 + norm(1 / sqrt(SNR(t))),   norm = min-max over t: in [1, 2]
//! ```

use tch::Tensor;

/// lambda(t) with its range: 1 / sqrt(SNR) at the ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimestepWeight {
    low: f64,
    high: f64,
}

impl TimestepWeight {
    /// Takes 1 / sqrt(SNR) of all levels. With zero terminal SNR the last is infinite: it counts as the largest finite one.
    pub fn of(noise_to_signal: &Tensor) -> Self {
        let values: Vec<f64> = noise_to_signal.iter::<f64>().map(Iterator::collect).unwrap_or_default();
        let finite = || values.iter().copied().filter(|x| x.is_finite());
        Self { low: finite().fold(f64::INFINITY, f64::min), high: finite().fold(0.0, f64::max) }
    }

    /// lambda of levels with these 1 / sqrt(SNR), `[B]`.
    pub fn lambda(&self, noise_to_signal: &Tensor) -> Tensor {
        (noise_to_signal.clamp_max(self.high) - self.low) / (self.high - self.low) + 1.0
    }
}
