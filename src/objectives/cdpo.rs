//! cDPO: DPO on labels of which a known share is wrong (docs/methods.md, section 15).
//!
//! ```text
//! loss = -(1 - e) log sigma(u) - e log sigma(-u),   e = label_noise
//! ```

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Key, Kind, Range, key};
use tch::Tensor;

const LABEL_NOISE: Key =
    key("label_noise", Kind::Real(Range::UNIT), Default::Toml("0.1"), "share of the labels that is wrong");

pub const ENTRY: Entry = Entry {
    name: "cdpo",
    keys: &[BETA_AUTO, LABEL_NOISE, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |method| Objective::Pairs(Box::new(Cdpo { label_noise: real(method, "label_noise") })),
};

struct Cdpo {
    label_noise: f64,
}

impl PairLoss for Cdpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let u = pairs.u();
        u.log_sigmoid() * (self.label_noise - 1.0) - (-u).log_sigmoid() * self.label_noise
    }
}
