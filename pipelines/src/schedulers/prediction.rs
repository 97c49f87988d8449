//! From a prediction to x_0 and noise (docs/methods.md 0.2, 18).

use super::config::PredictionType;
use tch::{Kind, Tensor};

/// The two parts of x_t = signal x_0 + sigma epsilon according to a prediction, each of the latents' shape.
#[derive(Debug)]
pub struct Estimate {
    pub x0: Tensor,
    pub epsilon: Tensor,
}

impl PredictionType {
    /// Splits latents x_t with signal^2 + sigma^2 = 1 by the network's `prediction` for them. `signal` and `sigma`
    /// are scalars, or one per sample (`[B, 1, 1, 1]`).
    pub fn estimate(self, prediction: &Tensor, latents: &Tensor, signal: &Tensor, sigma: &Tensor) -> Estimate {
        match self {
            Self::Epsilon => {
                Estimate { x0: (latents - prediction * sigma) / signal, epsilon: prediction.shallow_clone() }
            }
            Self::VPrediction => {
                Estimate { x0: latents * signal - prediction * sigma, epsilon: prediction * signal + latents * sigma }
            }
        }
    }

    /// The x_0 of variance-exploding latents z = x_t / signal = x_0 + sigma epsilon, the latents of Euler's methods.
    pub fn denoised(self, prediction: &Tensor, z: &Tensor, sigma: f32) -> Tensor {
        let variance = f64::from(sigma * sigma + 1.0);
        match self {
            Self::Epsilon => z - prediction * f64::from(sigma),
            Self::VPrediction => prediction * (-f64::from(sigma) / variance.sqrt()) + z / variance,
        }
    }
}

/// Compute type of a step: half precision loses the small differences between two levels.
pub(super) fn step_kind(latents: &Tensor) -> Kind {
    match latents.kind() {
        Kind::Half | Kind::BFloat16 => Kind::Float,
        kind => kind,
    }
}
