//! DPOK: "Reinforcement Learning for Fine-tuning Text-to-Image Diffusion Models", arXiv 2305.16381: DDPO with the
//! regulariser of the authors' code (docs/methods.md, section 10c).
//!
//! ```text
//! loss = ddpo + kl_ratio mean over C, H, W of (noise_pred_theta - noise_pred_start)^2,   both guided
//! ```

use super::ddpo::{ADVANTAGE_CLIP, BUFFER, CLAMP, Ddpo, ROLLOUTS};
use super::{Entry, Needs, Objective, Ratios, Rollouts, Step, StepLoss, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "dpok",
    keys: &[
        CLAMP,
        ADVANTAGE_CLIP,
        BUFFER,
        key(
            "kl_ratio",
            Kind::Real(Range::NOT_NEGATIVE),
            Default::Toml("0.01"),
            "weight of the drift from the start model",
        ),
    ],
    needs: Needs::sampling(Rollouts { drift: true, ..ROLLOUTS }),
    build: |method| Objective::Steps(Box::new(Dpok { gain: Ddpo::of(method), kl_ratio: real(method, "kl_ratio") })),
};

struct Dpok {
    gain: Ddpo,
    kl_ratio: f64,
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
