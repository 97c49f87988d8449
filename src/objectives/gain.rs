//! The clipped gain of a transition: PPO's objective with the advantage of its picture (ddpo, dpok, grpo).
//!
//! ```text
//! rho = e^r,   A = the advantage, clipped to +- advantage_clip
//! loss = max(-A rho, -A clamp(rho, 1 - clamp, 1 + clamp))
//!      = -A min(rho, 1 + clamp) for A >= 0,   -A max(rho, 1 - clamp) for A < 0
//! ```
//!
//! The second form is computed: it has one branch and the gradient of the first.

use super::Ratios;
use super::bounds::Bounds;
use crate::keys::{Key, Range, within};
use tch::{Kind as TensorKind, Tensor};

pub const ADVANTAGE_CLIP: Key = within(Range::POSITIVE).or("5.0").helped(" advantages are held to +- this");

/// Both limits of the gain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// Largest distance of rho from 1, in (0, 1).
    pub clamp: f64,
    /// Largest |A|, above 0.
    pub advantage_clip: f64,
}

impl Gain {
    fn bounds(&self) -> Bounds {
        Bounds::of_ratio(self.clamp)
    }

    /// A, `[n]`
    fn advantages(&self, ratios: &Ratios) -> Tensor {
        ratios.advantages().clamp(-self.advantage_clip, self.advantage_clip)
    }

    /// Losses of units of one transition, `[n]`.
    pub fn losses(&self, ratios: &Ratios) -> Tensor {
        let (r, a) = (ratios.member(&ratios.r, 0), self.advantages(ratios));
        let held = self.bounds().hold_above(&r).where_self(&a.ge(0.0), &self.bounds().hold_below(&r));
        -a * held.exp()
    }

    /// True where the clamp removes the gradient of a transition, `[M]` bool.
    pub fn clamped(&self, ratios: &Ratios) -> Tensor {
        let (r, a) = (ratios.member(&ratios.r, 0), self.advantages(ratios));
        let gained = a.gt(0.0).logical_and(&self.bounds().above(&r));
        let avoided = a.lt(0.0).logical_and(&self.bounds().below(&r));
        let rows = ratios.rows(0);
        let none = Tensor::zeros_like(&ratios.r).to_kind(TensorKind::Bool);
        none.index_put(&[Some(rows)], &gained.logical_or(&avoided), false)
    }
}
