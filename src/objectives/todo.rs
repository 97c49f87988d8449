//! TODO: preferences and ties in one model, arXiv 2411.02442 (docs/methods.md, section 15).
//!
//! ```text
//! preference: loss = -log sigma(u - a)
//! tie:        loss = -log[ (e^2a - 1) / ((1 + e^(a + u)) (1 + e^(a - u))) ]
//! ```
//!
//! Makes pairs without a visible difference usable: `data.ties = "keep"`. They count in the loss only.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "TODO",
    paper: "arXiv 2411.02442",
    cost: "1",
    when: "many ties",
    page: "pairwise.md#todo",
    ..Entry::of::<Todo>("todo")
};

crate::keys! {
    pub struct Todo {
        beta: BetaRule = BETA_AUTO,
        /// half width of the band in which images tie
        a: f64 = within(Range::POSITIVE).or("0.5"),
        ; offline: Offline,
    }
}

impl MethodKeys for Todo {
    fn method(self) -> Method {
        Method::pairs(Needs { ties: true, ..Needs::pairs(self.beta, self.offline) }, self)
    }
}

impl PairLoss for Todo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let u = pairs.u();
        let preference = -(&u - self.a).log_sigmoid();
        let level = (&u + self.a).softplus() + (self.a - &u).softplus() - (2.0 * self.a).exp_m1().ln();
        pairs.ties() * level + (1.0 - pairs.ties()) * preference
    }
}
