//! Dense reward: "A Dense Reward View on Aligning Text-to-Image Diffusion with Preference", arXiv 2402.08265
//! (docs/methods.md, section 3).
//!
//! ```text
//! l_j = scale mean over the sampled steps k of (r_k of trajectory j, clamped to [-clamp, clamp])
//! loss = sum over trajectories, best first, of [ log sum over itself and all worse ones of e^l - l_j ]
//! ```
//!
//! The steps are drawn with weights gamma^k, with repeats, and are common to all trajectories of a prompt.
//! Trajectories of equal score are not compared, as in plackett_luce, whose likelihood of a ranking this is.

use super::bounds::Bounds;
use super::{
    Entry, Lists, Method, MethodKeys, Needs, Ratios, Rollouts, Step, StepLoss, Unit, Units, descending, plackett_luce,
};
use crate::keys::{Range, within};
use tch::{Kind as TensorKind, Tensor};

pub const ENTRY: Entry = Entry {
    title: "Dense reward",
    paper: "arXiv 2402.08265",
    cost: "up to 8000 an iteration, and 12 a loss",
    when: "many updates of few samples",
    page: "dense-reward.md",
    ..Entry::of::<DenseReward>("dense-reward")
};

crate::keys! {
    pub struct DenseReward {
        /// of the logits of trajectories
        scale: f64 = within(Range::POSITIVE).or("12.5"),
        /// log-ratios r are held to +- this
        clamp: f64 = within(Range::POSITIVE).or("5e-4"),
        ; lists: Lists,
    }
}

impl MethodKeys for DenseReward {
    fn method(self) -> Method {
        let needs = Needs::sampling(Rollouts {
            units: Units::Lists(self.lists),
            steps: 50,
            guidance_scale: 7.5,
            trajectories: 5,
            ..Rollouts::STEPWISE
        });
        Method::steps(needs, self)
    }
}

impl DenseReward {
    fn bounds(&self) -> Bounds {
        Bounds::symmetric(self.clamp)
    }

    /// l of every trajectory of a unit, `[k]`.
    fn trajectory_logits(&self, ratios: &Ratios, unit: &Unit) -> Tensor {
        let held = self.bounds().hold(&ratios.r);
        let mean = |k: usize| ratios.of_member(&held, unit, k).mean(TensorKind::Double);
        let means: Vec<Tensor> = (0..unit.members.len()).map(mean).collect();
        Tensor::stack(&means, 0) * self.scale
    }
}

impl StepLoss for DenseReward {
    fn losses(&self, ratios: &Ratios, _: &Step) -> Tensor {
        let of_unit = |unit: &Unit| plackett_luce::loss(&self.trajectory_logits(ratios, unit), &unit.scores);
        Tensor::stack(&ratios.units.iter().map(of_unit).collect::<Vec<_>>(), 0)
    }

    /// l of the best trajectory minus that of the worst: of two, the logit of the pair.
    fn logits(&self, ratios: &Ratios, _: &Step) -> Option<Tensor> {
        let of_unit = |unit: &Unit| {
            let order = descending(&unit.scores);
            let logits = self.trajectory_logits(ratios, unit);
            let at = |k: Option<&usize>| logits.get(k.map_or(0, |k| *k as i64));
            at(order.first()) - at(order.last())
        };
        Some(Tensor::stack(&ratios.units.iter().map(of_unit).collect::<Vec<_>>(), 0))
    }

    fn clamped(&self, ratios: &Ratios) -> Tensor {
        self.bounds().outside(&ratios.r)
    }
}
