//! Dense reward: "A Dense Reward View on Aligning Text-to-Image Diffusion with Preference", arXiv 2402.08265
//! (docs/methods.md, section 3).
//!
//! ```text
//! l_j = scale mean over the sampled steps k of (r_k of trajectory j, held to [-clamp, clamp])
//! loss = sum over trajectories, best first, of [ log sum over itself and all worse ones of e^l - l_j ]
//! ```
//!
//! The steps are drawn with weights gamma^k, with repeats, the same for every trajectory of a prompt. Trajectories of equal
//! score are not compared, as in plackett_luce, whose likelihood of a ranking this is.

use super::bounds::Bounds;
use super::{Entry, Needs, Objective, Other, Ratios, Rollouts, Step, StepLoss, Unit, Units, plackett_luce, real};
use crate::keys::{Default, Kind, Range, key};
use tch::{Kind as TensorKind, Tensor};

pub const ENTRY: Entry = Entry {
    name: "dense-reward",
    keys: &[
        key("scale", Kind::Real(Range::POSITIVE), Default::Toml("12.5"), "of the logits of trajectories"),
        key("clamp", Kind::Real(Range::POSITIVE), Default::Toml("5e-4"), "log-ratios r are held to +- this"),
        key(
            "gamma",
            Kind::Real(Range { low: 0.0, high: 1.0, low_open: true, high_open: false }),
            Default::Toml("0.9"),
            "chance of a step over that of the noisier one before it",
        ),
        key("sampled_steps", Kind::Int { min: 1, max: 1000 }, Default::Toml("1"), "steps drawn for a loss"),
        key(
            "trajectories_per_loss",
            Kind::Int { min: 2, max: 64 },
            Default::Toml("2"),
            "trajectories of a prompt that a loss ranks",
        ),
    ],
    needs: Needs::sampling(Rollouts {
        units: Units::Lists,
        other: Other::Start,
        steps: 50,
        guidance_scale: 7.5,
        trajectories: 5,
        ..Rollouts::STEPWISE
    }),
    build: |method| {
        let (scale, bounds) = (real(method, "scale"), Bounds::symmetric(real(method, "clamp")));
        Objective::Steps(Box::new(DenseReward { scale, bounds }))
    },
};

struct DenseReward {
    scale: f64,
    bounds: Bounds,
}

impl DenseReward {
    /// l of every trajectory of a unit, `[k]`.
    fn trajectory_logits(&self, ratios: &Ratios, unit: &Unit) -> Tensor {
        let held = self.bounds.hold(&ratios.r);
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
            let order = super::descending(&unit.scores);
            let logits = self.trajectory_logits(ratios, unit);
            let at = |k: Option<&usize>| logits.get(k.map_or(0, |k| *k as i64));
            at(order.first()) - at(order.last())
        };
        Some(Tensor::stack(&ratios.units.iter().map(of_unit).collect::<Vec<_>>(), 0))
    }

    fn clamped(&self, ratios: &Ratios) -> Tensor {
        self.bounds.outside(&ratios.r)
    }
}
