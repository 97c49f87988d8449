//! Bounds of log-ratios, which keep a policy near the one it is compared with (docs/methods.md, the table of section
//! 10).

use crate::keys::{Key, Range, within};
use tch::Tensor;

/// Largest distance of a ratio of likelihoods from 1.
pub const RATIO_CLAMP: Key =
    within(Range::INSIDE).or("0.1").helped(" rho = e^r, the ratio of likelihoods, is held to 1 +- this");

/// An interval to which a log-ratio r is clamped. Outside it no gradient passes, at its edges it does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    low: f64,
    high: f64,
}

impl Bounds {
    /// The bounds of r that clamp rho = e^r to 1 +- `clamp`, `clamp` in (0, 1).
    pub fn of_ratio(clamp: f64) -> Self {
        Self { low: (-clamp).ln_1p(), high: clamp.ln_1p() }
    }

    /// r in -`clamp` ..= `clamp`.
    pub fn symmetric(clamp: f64) -> Self {
        Self { low: -clamp, high: clamp }
    }

    /// `r` clamped on both sides; same shape.
    pub fn hold(&self, r: &Tensor) -> Tensor {
        r.clamp(self.low, self.high)
    }

    /// `r` clamped from above; same shape.
    pub fn hold_above(&self, r: &Tensor) -> Tensor {
        r.clamp_max(self.high)
    }

    /// `r` clamped from below; same shape.
    pub fn hold_below(&self, r: &Tensor) -> Tensor {
        r.clamp_min(self.low)
    }

    /// True where `r` is above the interval; same shape, bool.
    pub fn above(&self, r: &Tensor) -> Tensor {
        r.gt(self.high)
    }

    /// True where `r` is below the interval; same shape, bool.
    pub fn below(&self, r: &Tensor) -> Tensor {
        r.lt(self.low)
    }

    /// True where clamping on both sides removes the gradient of `r`; same shape, bool.
    pub fn outside(&self, r: &Tensor) -> Tensor {
        self.above(r).logical_or(&self.below(r))
    }
}
