//! Diffusion-KTO: "Aligning Diffusion Models by Optimizing Human Utility", arXiv 2404.04465 (docs/methods.md, section 12):
//! images that are desirable or not, without pairs.
//!
//! ```text
//! g = lambda(t) (e_ref - e_theta),   KL = max(0, mean of g over the step), detached
//! v = y beta (g - KL),   y = +1 desirable, -1 undesirable      (no factor 0.5 here)
//! loss = lambda_y (1 - U(v)),   U = sigma | log sigma (loss averse) | -log sigma(-v) (risk seeking)
//! ```

use super::statistics::{Law, Statistic};
use super::{BETA, ERROR, Entry, LabelLoss, Labels, Needs, Objective, PROMPT_DROPOUT, Step, real, text};
use crate::keys::{Default, Key, Kind, Range, key};
use tch::Tensor;

const UTILITY: Key = key(
    "utility",
    Kind::Choice(&["sigmoid", "loss_averse", "risk_seeking"], &[]),
    Default::Toml("\"sigmoid\""),
    "what a gain is worth",
);

pub const ENTRY: Entry = Entry {
    name: "kto",
    keys: &[
        BETA,
        key("lambda_d", Kind::Real(Range::NOT_NEGATIVE), Default::Toml("1.0"), "weight of desirable images"),
        key("lambda_u", Kind::Real(Range::NOT_NEGATIVE), Default::Toml("1.0"), "weight of undesirable images"),
        key("desirable_share", Kind::Real(Range::UNIT), Default::Toml("0.8"), "chance of a position to be desirable"),
        UTILITY,
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs { statistic: Some(Statistic { name: "kl", law: Law::Step }), ..Needs::LABELS },
    build: |method| {
        let utility = match text(method, "utility") {
            "loss_averse" => Utility::LossAverse,
            "risk_seeking" => Utility::RiskSeeking,
            _ => Utility::Sigmoid,
        };
        let (lambda_d, lambda_u) = (real(method, "lambda_d"), real(method, "lambda_u"));
        Objective::Labels(Box::new(Kto { lambda_d, lambda_u, utility }))
    },
};

#[derive(Clone, Copy)]
enum Utility {
    Sigmoid,
    LossAverse,
    RiskSeeking,
}

struct Kto {
    lambda_d: f64,
    lambda_u: f64,
    utility: Utility,
}

impl LabelLoss for Kto {
    fn losses(&self, labels: &Labels, step: &Step) -> Tensor {
        let kl = step.statistic.max(0.0);
        let v = &labels.sign * (&labels.g - kl) * labels.beta;
        let lost = match self.utility {
            Utility::Sigmoid => (-v).sigmoid(),
            Utility::LossAverse => 1.0 - v.log_sigmoid(),
            Utility::RiskSeeking => 1.0 + (-v).log_sigmoid(),
        };
        let desirable = labels.desirable();
        lost * (&desirable * self.lambda_d + (1.0 - &desirable) * self.lambda_u)
    }

    /// The clamp follows the mean.
    fn statistic(&self, labels: &Labels) -> Tensor {
        labels.g.shallow_clone()
    }
}
