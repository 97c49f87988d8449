//! Diffusion-KTO: "Aligning Diffusion Models by Optimizing Human Utility", arXiv 2404.04465 (docs/methods.md, section 12):
//! images that are desirable or not, without pairs.
//!
//! ```text
//! g = lambda(t) (e_ref - e_theta),   KL = max(0, mean of g over the step), detached
//! v = y beta (g - KL),   y = +1 desirable, -1 undesirable      (no factor 0.5 here)
//! loss = lambda_y (1 - U(v)),   U = sigma | log sigma (loss averse) | -log sigma(-v) (risk seeking)
//! ```

use super::statistics::{Law, Statistic};
use super::{BETA, BetaRule, Entry, LabelLoss, Labels, Method, MethodKeys, Needs, Offline, Step};
use crate::keys::{Range, one_of, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "Diffusion-KTO",
    paper: "arXiv 2404.04465",
    cost: "1 (1.5 with accumulation)",
    when: "likes without pairs",
    page: "kto.md",
    ..Entry::of::<Kto>("kto")
};

crate::choice! {
    /// U of v
    pub enum Utility {
        Sigmoid = "sigmoid",
        LossAverse = "loss_averse",
        RiskSeeking = "risk_seeking",
    }
}

crate::keys! {
    pub struct Kto {
        beta: BetaRule = BETA,
        /// weight of desirable images
        lambda_d: f64 = within(Range::NOT_NEGATIVE).or("1.0"),
        /// weight of undesirable images
        lambda_u: f64 = within(Range::NOT_NEGATIVE).or("1.0"),
        /// chance of a position to be desirable
        desirable_share: f64 = within(Range::UNIT).or("0.8"),
        /// what a gain is worth
        utility: Utility = one_of::<Utility>().or_text("sigmoid"),
        ; offline: Offline,
    }
}

impl MethodKeys for Kto {
    fn method(self) -> Method {
        let needs = Needs {
            statistic: Some(Statistic { name: "kl", law: Law::Step }),
            desirable_share: Some(self.desirable_share),
            ..Needs::labels(self.beta, self.offline)
        };
        Method::labels(needs, self)
    }
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
    fn statistic(&self, labels: &Labels, _: &Step) -> Tensor {
        labels.g.shallow_clone()
    }
}
