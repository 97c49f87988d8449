//! D3PO: "Using Human Feedback to Fine-tune Diffusion Models without Any Reward Model", arXiv 2311.13231, as its public
//! code computes it (docs/methods.md, section 10a).
//!
//! ```text
//! u = beta (log rho_w - log rho_l),   log rho = r held to [log(1 - clamp), log(1 + clamp)]
//! loss = -log sigma(u)                at every step of two trajectories from one noise, with one label for all of them
//! ```
//!
//! Trajectories of equal reward make no pair.

use super::bounds::{Bounds, RATIO_CLAMP};
use super::{BETA, Entry, Needs, Objective, Other, Ratios, Rollouts, Step, StepLoss, Units, real};
use crate::keys::{Default, Key};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "d3po",
    keys: &[Key { default: Default::Toml("0.1"), ..BETA }, RATIO_CLAMP],
    needs: Needs::sampling(Rollouts {
        units: Units::Trajectories,
        other: Other::Start,
        trajectories: 2,
        ..Rollouts::STEPWISE
    }),
    build,
};

/// Objective with bounds from `method.clamp`; beta is part of the step.
pub fn build(method: &toml::Table) -> Objective {
    Objective::Steps(Box::new(D3po { bounds: Bounds::of_ratio(real(method, "clamp")) }))
}

/// Also the loss of methods that differ from D3PO only in the construction of their pairs of transitions.
struct D3po {
    bounds: Bounds,
}

impl D3po {
    /// u, `[n]`
    fn u(&self, ratios: &Ratios, step: &Step) -> Tensor {
        let held = self.bounds.hold(&ratios.r);
        (ratios.member(&held, 0) - ratios.member(&held, 1)) * step.beta
    }
}

impl StepLoss for D3po {
    fn losses(&self, ratios: &Ratios, step: &Step) -> Tensor {
        -self.u(ratios, step).log_sigmoid()
    }

    fn logits(&self, ratios: &Ratios, step: &Step) -> Option<Tensor> {
        Some(self.u(ratios, step))
    }

    fn clamped(&self, ratios: &Ratios) -> Tensor {
        self.bounds.outside(&ratios.r)
    }
}
