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
use super::{Entry, Method, MethodKeys, Needs, Other, Ratios, Rollouts, Step, StepLoss, Units};
use crate::keys::{Range, whole, within};
use tch::{Kind as TensorKind, Tensor};

pub const ENTRY: Entry = Entry {
    title: "DDPO",
    paper: "arXiv 2305.13301",
    cost: "5100 an iteration",
    when: "the baseline; rewards whose size counts",
    page: "ddpo.md",
    ..Entry::of::<Ddpo>("ddpo")
};

crate::keys! {
    /// Also the first term of dpok.
    #[derive(Copy)]
    pub struct Ddpo {
        clamp: f64 = RATIO_CLAMP.or("1e-4"),
        /// advantages are held to +- this
        advantage_clip: f64 = within(Range::POSITIVE).or("5.0"),
        /// last rewards of a prompt that advantages are measured by
        buffer: usize = whole(2, 1_000_000).or("16"),
    }
}

impl MethodKeys for Ddpo {
    fn method(self) -> Method {
        Method::steps(Needs::sampling(self.rollouts()), self)
    }
}

impl Ddpo {
    /// Single transitions, compared with the policy that sampled them.
    pub fn rollouts(&self) -> Rollouts {
        Rollouts { units: Units::Steps { buffer: self.buffer }, other: Other::Sampler, ..Rollouts::STEPWISE }
    }

    fn bounds(&self) -> Bounds {
        Bounds::of_ratio(self.clamp)
    }

    /// A, `[n]`
    fn advantages(&self, ratios: &Ratios) -> Tensor {
        ratios.advantages().clamp(-self.advantage_clip, self.advantage_clip)
    }
}

impl StepLoss for Ddpo {
    fn losses(&self, ratios: &Ratios, _: &Step) -> Tensor {
        let (r, a) = (ratios.member(&ratios.r, 0), self.advantages(ratios));
        let held = self.bounds().hold_above(&r).where_self(&a.ge(0.0), &self.bounds().hold_below(&r));
        -a * held.exp()
    }

    fn clamped(&self, ratios: &Ratios) -> Tensor {
        let (r, a) = (ratios.member(&ratios.r, 0), self.advantages(ratios));
        let gained = a.gt(0.0).logical_and(&self.bounds().above(&r));
        let avoided = a.lt(0.0).logical_and(&self.bounds().below(&r));
        let rows = ratios.rows(0);
        let none = Tensor::zeros_like(&ratios.r).to_kind(TensorKind::Bool);
        none.index_put(&[Some(rows)], &gained.logical_or(&avoided), false)
    }
}
