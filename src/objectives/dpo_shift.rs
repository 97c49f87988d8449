//! DPO-Shift: less push on the loser protects the winner, arXiv 2502.07599 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(z - lam y),   lam fixed, or lam + (lam_end - lam) s / steps at step s
//! ```

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "dpo_shift",
    keys: &[
        BETA_AUTO,
        key("lam", Kind::Real(Range::NOT_NEGATIVE), Default::Toml("0.75"), "weight of the loser in the logit"),
        key("lam_end", Kind::Real(Range::NOT_NEGATIVE), Default::Absent, "where lam has moved by the last step"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs { ramp: Some("lam_end"), ..Needs::PAIRS },
    build: |method| {
        let lam = real(method, "lam");
        let lam_end = if method.contains_key("lam_end") { real(method, "lam_end") } else { lam };
        Objective::Pairs(Box::new(DpoShift { lam, lam_end }))
    },
};

struct DpoShift {
    lam: f64,
    lam_end: f64,
}

impl PairLoss for DpoShift {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        let done = step.number as f64 / step.steps as f64;
        let lam = self.lam + (self.lam_end - self.lam) * done;
        -(pairs.z() - pairs.y() * lam).log_sigmoid()
    }
}
