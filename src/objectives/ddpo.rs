//! DDPO: "Training Diffusion Models with Reinforcement Learning", arXiv 2305.13301, as the public code of D3PO computes it
//! (docs/methods.md, section 10c).
//!
//! ```text
//! rho = p_theta(x_p | x_t) / p_old(x_p | x_t) = e^r,   p_old: the policy as it sampled
//! A = the advantage of the picture, clipped to +- advantage_clip
//! loss = max(-A rho, -A clamp(rho, 1 - clamp, 1 + clamp))
//!      = -A min(rho, 1 + clamp) for A >= 0,   -A max(rho, 1 - clamp) for A < 0
//! ```
//!
//! The second form is computed: it has one branch and the gradient of the first.

use super::bounds::{Bounds, RATIO_CLAMP};
use super::{Entry, Needs, Objective, Other, Ratios, Rollouts, Step, StepLoss, Units, real};
use crate::keys::{Default, Key, Kind, Range, key};
use tch::{Kind as TensorKind, Tensor};

pub const CLAMP: Key = Key { default: Default::Toml("1e-4"), ..RATIO_CLAMP };
pub const ADVANTAGE_CLIP: Key =
    key("advantage_clip", Kind::Real(Range::POSITIVE), Default::Toml("5.0"), "advantages are held to +- this");
pub const BUFFER: Key = key(
    "buffer",
    Kind::Int { min: 2, max: 1_000_000 },
    Default::Toml("16"),
    "last rewards of a prompt that advantages are measured by",
);
/// Single transitions, compared with the policy that sampled them.
pub const ROLLOUTS: Rollouts = Rollouts { units: Units::Steps, other: Other::Sampler, ..Rollouts::STEPWISE };

pub const ENTRY: Entry = Entry {
    name: "ddpo",
    keys: &[CLAMP, ADVANTAGE_CLIP, BUFFER],
    needs: Needs::sampling(ROLLOUTS),
    build: |method| Objective::Steps(Box::new(Ddpo::of(method))),
};

/// Also the first term of dpok.
pub struct Ddpo {
    bounds: Bounds,
    advantage_clip: f64,
}

impl Ddpo {
    /// The loss of a resolved [method].
    pub fn of(method: &toml::Table) -> Self {
        Self { bounds: Bounds::of_ratio(real(method, "clamp")), advantage_clip: real(method, "advantage_clip") }
    }

    /// A, `[n]`
    fn advantages(&self, ratios: &Ratios) -> Tensor {
        ratios.advantages().clamp(-self.advantage_clip, self.advantage_clip)
    }
}

impl StepLoss for Ddpo {
    fn losses(&self, ratios: &Ratios, _: &Step) -> Tensor {
        let (r, a) = (ratios.member(&ratios.r, 0), self.advantages(ratios));
        let held = self.bounds.hold_above(&r).where_self(&a.ge(0.0), &self.bounds.hold_below(&r));
        -a * held.exp()
    }

    fn clamped(&self, ratios: &Ratios) -> Tensor {
        let (r, a) = (ratios.member(&ratios.r, 0), self.advantages(ratios));
        let gained = a.gt(0.0).logical_and(&self.bounds.above(&r));
        let avoided = a.lt(0.0).logical_and(&self.bounds.below(&r));
        let rows = ratios.rows(0);
        let none = Tensor::zeros_like(&ratios.r).to_kind(TensorKind::Bool);
        none.index_put(&[Some(rows)], &gained.logical_or(&avoided), false)
    }
}
