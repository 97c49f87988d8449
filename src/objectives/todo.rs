//! TODO: preferences and ties in one model, arXiv 2411.02442 (docs/methods.md, section 15).
//!
//! ```text
//! preference: loss = -log sigma(u - a)
//! tie:        loss = -log[ (e^2a - 1) / ((1 + e^(a + u)) (1 + e^(a - u))) ]
//! ```
//!
//! Makes the pairs between which people saw no difference usable: `data.ties = "keep"`. They count in the loss only.

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "todo",
    keys: &[
        BETA_AUTO,
        key("a", Kind::Real(Range::POSITIVE), Default::Toml("0.5"), "half width of the band in which images tie"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs { ties: true, ..Needs::PAIRS },
    build: |method| Objective::Pairs(Box::new(Todo { a: real(method, "a") })),
};

struct Todo {
    a: f64,
}

impl PairLoss for Todo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let u = pairs.u();
        let preference = -(&u - self.a).log_sigmoid();
        let level = (&u + self.a).softplus() + (self.a - &u).softplus() - (2.0 * self.a).exp_m1().ln();
        pairs.ties() * level + (1.0 - pairs.ties()) * preference
    }
}
