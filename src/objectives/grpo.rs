//! GRPO on a sampler with noise: DanceGRPO, arXiv 2505.07818; Flow-GRPO, arXiv 2505.05470; Pref-GRPO, arXiv 2508.20751,
//! whose win rates are `[reward] pairwise` (docs/methods/grpo.md).
//!
//! ```text
//! G trajectories of a prompt from one x_T, with rewards R_i
//! A_i = (R_i - mean_G R) / (std_G R + 1e-8),   std over G - 1, of the group alone
//! loss = the clipped gain (gain.rs) + kl_beta mean over C, H, W of (mu_theta - mu_start)^2 / (2 sigma_t^2)
//! ```
//!
//! The mean log-ratio has a bias of -mean (mu_theta - mu_old)^2 / (2 sigma_t^2). `ratio_norm` adds it back and scales by
//! sigma_t: log rho' = mean of (mu_theta - mu_old) z, z the noise of the step.

use super::bounds::RATIO_CLAMP;
use super::gain::{ADVANTAGE_CLIP, Gain};
use super::{
    Entry, Groups, Method, MethodKeys, Needs, Other, Ratios, Rollouts, Step, StepDrift, StepLoss, StepRatio, Units,
};
use crate::keys::{Range, switch, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "GRPO",
    paper: "arXiv 2505.07818",
    cost: "8000 an iteration",
    when: "online with a reward of any scale: pictures of a prompt are compared among themselves",
    page: "grpo.md",
    ..Entry::of::<Grpo>("grpo")
};

crate::keys! {
    pub struct Grpo {
        clamp: f64 = RATIO_CLAMP.or("1e-4"),
        advantage_clip: f64 = ADVANTAGE_CLIP,
        /// weight of the squared distance of the step's mean from the start model's, over 2 sigma_t^2
        kl_beta: f64 = within(Range::NOT_NEGATIVE).or("0.0"),
        /// log-ratios without their bias, and independent of sigma_t
        ratio_norm: bool = switch().or("false"),
        ; groups: Groups,
    }
}

impl MethodKeys for Grpo {
    fn method(self) -> Method {
        let needs = Needs::sampling(Rollouts {
            units: Units::Groups(self.groups),
            other: Other::Sampler,
            drift: (self.kl_beta > 0.0).then_some(StepDrift::Mean),
            ratio: if self.ratio_norm { StepRatio::Normed } else { StepRatio::LogProb },
            trajectories: 16,
            ..Rollouts::STEPWISE
        });
        Method::steps(needs, self)
    }
}

impl Grpo {
    fn gain(&self) -> Gain {
        Gain { clamp: self.clamp, advantage_clip: self.advantage_clip }
    }
}

impl StepLoss for Grpo {
    fn losses(&self, ratios: &Ratios, _: &Step) -> Tensor {
        let gain = self.gain().losses(ratios);
        match self.kl_beta > 0.0 {
            true => gain + ratios.member(ratios.drift(), 0) * self.kl_beta,
            false => gain,
        }
    }

    /// The distance from the start model keeps its gradient.
    fn clamped(&self, ratios: &Ratios) -> Tensor {
        self.gain().clamped(ratios)
    }
}
