//! DPOK: "Reinforcement Learning for Fine-tuning Text-to-Image Diffusion Models", arXiv 2305.16381: DDPO with the
//! regulariser of the authors' code (docs/methods.md, section 10c).
//!
//! ```text
//! loss = ddpo + kl_ratio mean over C, H, W of (noise_pred_theta - noise_pred_start)^2,   both guided
//! ```

use super::ddpo::Ddpo;
use super::{Entry, Method, MethodKeys, Needs, Ratios, Rollouts, Step, StepDrift, StepLoss};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "DPOK",
    paper: "arXiv 2305.16381",
    cost: "6400 an iteration",
    when: "where ddpo leaves the start model too fast",
    page: "ddpo.md",
    ..Entry::of::<Dpok>("dpok")
};

crate::keys! {
    pub struct Dpok {
        /// weight of the drift from the start model
        kl_ratio: f64 = within(Range::NOT_NEGATIVE).or("0.01"),
        ; gain: Ddpo,
    }
}

impl MethodKeys for Dpok {
    fn method(self) -> Method {
        Method::steps(Needs::sampling(Rollouts { drift: Some(StepDrift::Prediction), ..self.gain.rollouts() }), self)
    }
}

impl StepLoss for Dpok {
    fn losses(&self, ratios: &Ratios, step: &Step) -> Tensor {
        self.gain.losses(ratios, step) + ratios.member(ratios.drift(), 0) * self.kl_ratio
    }

    /// The drift keeps its gradient: the count covers only gradients removed by the clamp of the ratio.
    fn clamped(&self, ratios: &Ratios) -> Tensor {
        self.gain.clamped(ratios)
    }
}
