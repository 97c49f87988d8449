//! WPO: pairs that are likely under the reference weigh more, arXiv 2406.11827 (docs/methods.md, section 15).
//!
//! ```text
//! loss = sg(w) (-log sigma(u)),   w = min(1, exp(-kappa (e_ref(w) + e_ref(l) - m)))
//! ```
//!
//! m is the running mean of e_ref(w) + e_ref(l). The original uses log-probabilities of tokens, which a diffusion
//! model lacks: the port is ours.

use super::statistics::{Law, Statistic};
use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "WPO",
    paper: "arXiv 2406.11827",
    cost: "1",
    when: "pairs of very different worth",
    page: "pairwise.md#losses-that-weigh-pairs",
    ..Entry::of::<Wpo>("wpo")
};

crate::keys! {
    pub struct Wpo {
        beta: BetaRule = BETA_AUTO,
        /// how fast the weight falls with the error
        kappa: f64 = within(Range::NOT_NEGATIVE).or("10.0"),
        ; offline: Offline,
    }
}

impl MethodKeys for Wpo {
    fn method(self) -> Method {
        let needs = Needs {
            weights: true,
            statistic: Some(Statistic { name: "wpo_mean", law: Law::Before }),
            ..Needs::pairs(self.beta, self.offline)
        };
        Method::pairs(needs, self)
    }
}

impl PairLoss for Wpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        -pairs.u().log_sigmoid()
    }

    fn weights(&self, pairs: &Pairs, step: &Step) -> Option<Tensor> {
        Some(((self.statistic(pairs, step) - step.statistic) * -self.kappa).exp().clamp_max(1.0))
    }

    fn statistic(&self, pairs: &Pairs, _: &Step) -> Tensor {
        pairs.ref_w() + pairs.ref_l()
    }
}
