//! PMPO: "Preference Optimization as Probabilistic Inference", arXiv 2410.04166, on single images, of which there may be
//! bad ones only.
//!
//! ```text
//! J = a E_good[log pi] - (1 - a) E_bad[log pi] - b KL(pi_ref || pi)
//! desirable     loss =        a/2 mean |p - t|^2 + b/2 mean |p - r|^2
//! undesirable   loss = -(1 - a)/2 mean |p - t|^2 + b/2 mean |p - r|^2
//! ```
//!
//! p prediction, t target, r the reference's prediction. J is the paper's; the losses are our reading of it for
//! diffusion models: both terms are Gaussian log-likelihoods. Their minima are p = (a t + b r) / (a + b) and
//! p = (b r - (1 - a) t) / (b - (1 - a)). The second one exists for b > 1 - a alone, so that other values are refused
//! where the data has undesirable images. The errors are in the space of margins.

use super::{Entry, LabelLoss, Labels, Method, MethodKeys, Needs, Offline, Step};
use crate::data::items::ItemKind;
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "PMPO",
    paper: "arXiv 2410.04166",
    cost: "1",
    when: "pictures of one class only, dislikes for example",
    page: "pmpo.md",
    ..Entry::of::<Pmpo>("pmpo")
};

crate::keys! {
    pub struct Pmpo {
        /// weight of desirable images; 1 - a that of undesirable ones
        a: f64 = within(Range::UNIT).or("0.5"),
        /// strength of the pull to the reference; above 1 - a where images are undesirable
        b: f64 = within(Range::POSITIVE).or("1.0"),
        ; offline: Offline,
    }
}

impl MethodKeys for Pmpo {
    fn method(self) -> Method {
        let needs = Needs {
            items: ItemKind::Labels,
            drift: true,
            one_class: true,
            undesirable_requires: (self.b <= 1.0 - self.a).then_some("method.b above 1 - method.a"),
            timestep_weighting: false,
            ..Needs::offline(self.offline)
        };
        Method::labels(needs, self)
    }
}

impl LabelLoss for Pmpo {
    fn losses(&self, labels: &Labels, _: &Step) -> Tensor {
        let desirable = labels.desirable();
        let pull = &desirable * self.a - (1.0 - &desirable) * (1.0 - self.a);
        (labels.theta() * pull + &labels.drift().square * self.b) * 0.5
    }
}
