//! DSPO, as its SDXL code computes it: a squared probability, with a score term once the policy has drifted (docs/methods.md,
//! section 11a).
//!
//! ```text
//! d = eps_theta(w) - eps_ref(w)
//! mean d^2 >= gate:  loss = (1 - sigma(u))^2 mean d^2
//! else:              loss = (1 - sigma(u))^2
//! ```
//!
//! The public test of the gate is over the micro-batch; ours is a pair's own. d is not detached.

use super::{BETA, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "dspo_sq",
    keys: &[
        BETA,
        key("gate", Kind::Real(Range::NOT_NEGATIVE), Default::Toml("0.1"), "drift from which it enters the loss"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs { drift: true, safeguard_mu: 0.2, ..Needs::PAIRS },
    build: |method| Objective::Pairs(Box::new(DspoSq { gate: real(method, "gate") })),
};

struct DspoSq {
    gate: f64,
}

impl PairLoss for DspoSq {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let square = &pairs.drift().square;
        let factor = square.where_self(&square.ge(self.gate), &square.ones_like());
        (-pairs.u()).sigmoid().square() * factor
    }
}
