//! D3PO: "Using Human Feedback to Fine-tune Diffusion Models without Any Reward Model", arXiv 2311.13231, as its public
//! code computes it (docs/methods.md, section 10a).
//!
//! ```text
//! u = beta (log rho_w - log rho_l),   log rho = r clamped to [log(1 - clamp), log(1 + clamp)]
//! loss = -log sigma(u)                at every step of two trajectories from one noise, with one label for all of them
//! ```
//!
//! Trajectories of equal reward form no pair.

use super::bounds::{Bounds, RATIO_CLAMP};
use super::{BETA, BetaRule, Entry, Method, MethodKeys, Needs, Ratios, Rollouts, Step, StepLoss, Units};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "D3PO",
    paper: "arXiv 2311.13231",
    cost: "3200 an iteration",
    when: "a scorer that can only compare finished pictures",
    page: "d3po.md",
    ..Entry::of::<D3po>("d3po")
};

crate::keys! {
    pub struct D3po {
        beta: BetaRule = BETA.or("0.1"),
        clamp: f64 = RATIO_CLAMP,
    }
}

impl MethodKeys for D3po {
    fn method(self) -> Method {
        let pairs = Rollouts { units: Units::Trajectories, trajectories: 2, ..Rollouts::STEPWISE };
        let needs = Needs { beta: Some(self.beta), ..Needs::sampling(pairs) };
        Method::steps(needs, PairedSteps::new(self.clamp))
    }
}

/// Loss of pairs of transitions, also of methods that differ from D3PO only in the construction of pairs.
pub struct PairedSteps {
    bounds: Bounds,
}

impl PairedSteps {
    /// Bounds that clamp ratios of likelihoods to 1 +- `clamp`.
    pub fn new(clamp: f64) -> Self {
        Self { bounds: Bounds::of_ratio(clamp) }
    }

    /// u, `[n]`
    fn u(&self, ratios: &Ratios, step: &Step) -> Tensor {
        let held = self.bounds.hold(&ratios.r);
        (ratios.member(&held, 0) - ratios.member(&held, 1)) * step.beta
    }
}

impl StepLoss for PairedSteps {
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
