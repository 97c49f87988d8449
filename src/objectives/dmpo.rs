//! DMPO: reverse KL to a soft label, which is EXO for pairs (docs/methods.md, sections 11b and 15).
//!
//! ```text
//! p = sigma(u) in [1e-6, 1 - 1e-6],   q = 1 - alpha
//! loss = p log(p / q) + (1 - p) log((1 - p) / (1 - q))
//! ```
//!
//! p is not detached; outside its limits there is no gradient.

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Key, Kind, Range, key};
use tch::Tensor;

const LEAST_P: f64 = 1e-6;

/// (0, 1)
const INSIDE_UNIT: Range = Range { low: 0.0, high: 1.0, low_open: true, high_open: true };

const DMPO_BETA: Key = Key { default: Default::ByFamily("2000.0"), ..BETA_AUTO };

pub const ENTRY: Entry = Entry {
    name: "dmpo",
    keys: &[
        DMPO_BETA,
        key("alpha", Kind::Real(INSIDE_UNIT), Default::Toml("0.01"), "share of wrong labels that the target allows"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs::PAIRS,
    build: |method| Objective::Pairs(Box::new(Dmpo { alpha: real(method, "alpha") })),
};

struct Dmpo {
    alpha: f64,
}

impl PairLoss for Dmpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let p = pairs.u().sigmoid().clamp(LEAST_P, 1.0 - LEAST_P);
        let q = 1.0 - self.alpha;
        let lost: Tensor = 1.0 - &p;
        &p * (p.log() - q.ln()) + &lost * (lost.log() - (1.0 - q).ln())
    }
}
