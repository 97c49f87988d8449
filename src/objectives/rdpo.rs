//! rDPO: an unbiased estimate of the DPO loss under label noise, arXiv 2403.00409 (docs/methods.md, section 15).
//!
//! ```text
//! loss = [ -(1 - e) log sigma(u) + e log sigma(-u) ] / (1 - 2 e),   e = label_noise < 1/2
//! ```
//!
//! The loss has no lower bound; we hold u at 10, without gradient above.

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Key, Kind, Range, key};
use tch::Tensor;

/// Upper bound of u.
const MOST_U: f64 = 10.0;

const LABEL_NOISE: Key = key(
    "label_noise",
    Kind::Real(Range { low: 0.0, high: 0.5, low_open: false, high_open: true }),
    Default::Toml("0.1"),
    "share of the labels that is wrong, below one half",
);

pub const ENTRY: Entry = Entry {
    name: "rdpo",
    keys: &[BETA_AUTO, LABEL_NOISE, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |method| Objective::Pairs(Box::new(Rdpo { label_noise: real(method, "label_noise") })),
};

struct Rdpo {
    label_noise: f64,
}

impl PairLoss for Rdpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let u = pairs.u().clamp_max(MOST_U);
        let e = self.label_noise;
        (u.log_sigmoid() * (e - 1.0) + (-u).log_sigmoid() * e) / (1.0 - 2.0 * e)
    }
}
