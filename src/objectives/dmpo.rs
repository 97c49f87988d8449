//! DMPO: reverse KL to a soft label, which is EXO for pairs (docs/methods.md, sections 11b and 15).
//!
//! ```text
//! p = sigma(u) in [1e-6, 1 - 1e-6],   q = 1 - alpha
//! loss = p log(p / q) + (1 - p) log((1 - p) / (1 - q))
//! ```
//!
//! p is not detached; outside its limits there is no gradient.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

const LEAST_P: f64 = 1e-6;

pub const ENTRY: Entry = Entry {
    title: "DMPO (EXO)",
    paper: "",
    cost: "1",
    when: "a soft target for every pair",
    page: "pairwise.md#dmpo",
    ..Entry::of::<Dmpo>("dmpo")
};

crate::keys! {
    pub struct Dmpo {
        beta: BetaRule = BETA_AUTO.by_family("2000.0"),
        /// share of wrong labels that the target allows
        alpha: f64 = within(Range::INSIDE).or("0.01"),
        ; offline: Offline,
    }
}

impl MethodKeys for Dmpo {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for Dmpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let p = pairs.u().sigmoid().clamp(LEAST_P, 1.0 - LEAST_P);
        let q = 1.0 - self.alpha;
        let lost: Tensor = 1.0 - &p;
        &p * (p.log() - q.ln()) + &lost * (lost.log() - (1.0 - q).ln())
    }
}
