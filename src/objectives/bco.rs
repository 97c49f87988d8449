//! BCO: a classifier of winners and losers around a moving threshold (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(z - d) - log sigma(-(y - d)),   d = mean of all z and y so far
//! ```
//!
//! d is detached and covers whole steps, including the current one.

use super::statistics::{Law, Statistic};
use super::{BETA, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "BCO",
    paper: "arXiv 2404.04656",
    cost: "1 (1.5 with accumulation)",
    when: "winners and losers that should keep absolute places",
    page: "pairwise.md#losses-of-both-images-apart",
    ..Entry::of::<Bco>("bco")
};

crate::keys! {
    pub struct Bco {
        beta: BetaRule = BETA,
        ; offline: Offline,
    }
}

impl MethodKeys for Bco {
    fn method(self) -> Method {
        let needs = Needs {
            statistic: Some(Statistic { name: "bco_threshold", law: Law::AllSteps }),
            ..Needs::pairs(self.beta, self.offline)
        };
        Method::pairs(needs, self)
    }
}

impl PairLoss for Bco {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        let d = step.statistic;
        -(pairs.z() - d).log_sigmoid() - (d - pairs.y()).log_sigmoid()
    }

    fn statistic(&self, pairs: &Pairs, _: &Step) -> Tensor {
        Tensor::cat(&[pairs.z(), pairs.y()], 0)
    }
}
