//! DSPO, as its SDXL code computes it: a squared probability, with a score term once the policy has drifted (docs/methods.md,
//! section 11a).
//!
//! ```text
//! d = eps_theta(w) - eps_ref(w)
//! mean d^2 >= gate:  loss = (1 - sigma(u))^2 mean d^2
//! else:              loss = (1 - sigma(u))^2
//! ```
//!
//! The public code tests the gate over the micro-batch, ours per pair. d is not detached.

use super::{BETA, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "DSPO, SDXL code",
    paper: "",
    cost: "1",
    when: "to reproduce DSPO",
    page: "dspo.md",
    ..Entry::of::<DspoSq>("dspo_sq")
};

crate::keys! {
    pub struct DspoSq {
        beta: BetaRule = BETA,
        /// drift from which it enters the loss
        gate: f64 = within(Range::NOT_NEGATIVE).or("0.1"),
        ; offline: Offline,
    }
}

impl MethodKeys for DspoSq {
    fn method(self) -> Method {
        let needs = Needs { drift: true, safeguard_mu: 0.2, ..Needs::pairs(self.beta, self.offline) };
        Method::pairs(needs, self)
    }
}

impl PairLoss for DspoSq {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let square = &pairs.drift().square;
        let factor = square.where_self(&square.ge(self.gate), &square.ones_like());
        (-pairs.u()).sigmoid().square() * factor
    }
}
