//! WPO: pairs that the reference finds likely weigh more, arXiv 2406.11827 (docs/methods.md, section 15).
//!
//! ```text
//! loss = sg(w) (-log sigma(u)),   w = min(1, exp(-kappa (e_ref(w) + e_ref(l) - m)))
//! ```
//!
//! m is the running mean of e_ref(w) + e_ref(l). The original takes log-probabilities of tokens, which a diffusion model has
//! not: the port is ours.

use super::statistics::{Law, Statistic};
use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "wpo",
    keys: &[
        BETA_AUTO,
        key(
            "kappa",
            Kind::Real(Range::NOT_NEGATIVE),
            Default::Toml("10.0"),
            "how fast the weight falls with the error",
        ),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs { weights: true, statistic: Some(Statistic { name: "wpo_mean", law: Law::Before }), ..Needs::PAIRS },
    build: |method| Objective::Pairs(Box::new(Wpo { kappa: real(method, "kappa") })),
};

struct Wpo {
    kappa: f64,
}

impl PairLoss for Wpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        -pairs.u().log_sigmoid()
    }

    fn weights(&self, pairs: &Pairs, step: &Step) -> Option<Tensor> {
        Some(((self.statistic(pairs) - step.statistic) * -self.kappa).exp().clamp_max(1.0))
    }

    fn statistic(&self, pairs: &Pairs) -> Tensor {
        pairs.ref_w() + pairs.ref_l()
    }
}
