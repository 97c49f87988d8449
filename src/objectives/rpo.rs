//! RPO: DPO with a supervised pull on the winner, arXiv 2405.16436 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(u) + eta 0.5 beta e_theta(w)
//! ```
//!
//! The supervised term is not weighted by lambda(t).

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "rpo",
    keys: &[
        BETA_AUTO,
        key("eta", Kind::Real(Range::NOT_NEGATIVE), Default::Toml("0.005"), "weight of the supervised term"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs::PAIRS,
    build: |method| Objective::Pairs(Box::new(Rpo { eta: real(method, "eta") })),
};

struct Rpo {
    eta: f64,
}

impl PairLoss for Rpo {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        -pairs.u().log_sigmoid() + pairs.theta_w() * (0.5 * self.eta * step.beta)
    }
}
