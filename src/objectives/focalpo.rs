//! FocalPO: pairs that are told apart already weigh more, arXiv 2501.06645 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -sg(p)^g log sigma(u),   p = sigma(u)
//! ```
//!
//! p^g is a loss weight and detached: undetached it would push the wrong way where p is small.

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "focalpo",
    keys: &[
        BETA_AUTO,
        key("g", Kind::Real(Range::NOT_NEGATIVE), Default::Toml("0.05"), "focus; 0 is dpo"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs { weights: true, ..Needs::PAIRS },
    build: |method| Objective::Pairs(Box::new(Focalpo { g: real(method, "g") })),
};

struct Focalpo {
    g: f64,
}

impl PairLoss for Focalpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        -pairs.u().log_sigmoid()
    }

    fn weights(&self, pairs: &Pairs, _: &Step) -> Option<Tensor> {
        Some(pairs.u().sigmoid().pow_tensor_scalar(self.g))
    }
}
