//! DDPO: "Training Diffusion Models with Reinforcement Learning", arXiv 2305.13301, as the public code of D3PO computes it
//! (docs/methods.md, section 10c).
//!
//! ```text
//! rho = p_theta(x_p | x_t) / p_old(x_p | x_t) = e^r,   p_old: the policy as it sampled
//! loss = the clipped gain (gain.rs) with the advantage over the last rewards of the prompt
//! ```

use super::bounds::RATIO_CLAMP;
use super::gain::{ADVANTAGE_CLIP, Gain};
use super::{Entry, Method, MethodKeys, Needs, Other, Ratios, Rollouts, Step, StepLoss, Units};
use crate::keys::whole;
use tch::Tensor;

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
        advantage_clip: f64 = ADVANTAGE_CLIP,
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

    fn gain(&self) -> Gain {
        Gain { clamp: self.clamp, advantage_clip: self.advantage_clip }
    }
}

impl StepLoss for Ddpo {
    fn losses(&self, ratios: &Ratios, _: &Step) -> Tensor {
        self.gain().losses(ratios)
    }

    fn clamped(&self, ratios: &Ratios) -> Tensor {
        self.gain().clamped(ratios)
    }
}
