//! DiscoPOP: a blend of logistic and exponential loss that a search found (docs/methods.md, section 15).
//!
//! ```text
//! m = sigma(u / tau)
//! loss = (1 - m) (-log sigma(u)) + m e^(-u)
//! ```
//!
//! m is not detached. m e^(-u) is computed as exp(log sigma(u / tau) - u), which does not overflow.

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "discopop",
    keys: &[
        BETA_AUTO,
        key("tau", Kind::Real(Range::POSITIVE), Default::Toml("0.05"), "width of the blend"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs::PAIRS,
    build: |method| Objective::Pairs(Box::new(Discopop { tau: real(method, "tau") })),
};

struct Discopop {
    tau: f64,
}

impl PairLoss for Discopop {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let u = pairs.u();
        let scaled = &u / self.tau;
        (-&scaled).sigmoid() * -u.log_sigmoid() + (scaled.log_sigmoid() - &u).exp()
    }
}
