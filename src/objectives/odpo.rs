//! ODPO: the logit must exceed an offset that grows with the gap of the scores, arXiv 2402.10571 (docs/methods.md,
//! section 15).
//!
//! ```text
//! loss = -log sigma(u - alpha f(gap)),   gap = gap_scale (r_w - r_l)
//! f = log max(gap, 0.001), or the identity
//! ```
//!
//! log of a small gap is strongly negative, which takes the margin requirement away.

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, SCORER, Step, real, text};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

const LEAST_GAP: f64 = 0.001;

pub const ENTRY: Entry = Entry {
    name: "odpo",
    keys: &[
        BETA_AUTO,
        key("alpha", Kind::Real(Range::NOT_NEGATIVE), Default::Toml("1.0"), "factor of the offset"),
        key("transform", Kind::Choice(&["log", "identity"], &[]), Default::Toml("\"log\""), "f of the gap"),
        key("gap_scale", Kind::Real(Range::POSITIVE), Default::Toml("100.0"), "units of the scores"),
        SCORER,
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs { scores: true, ..Needs::PAIRS },
    build: |method| {
        let (alpha, gap_scale) = (real(method, "alpha"), real(method, "gap_scale"));
        Objective::Pairs(Box::new(Odpo { alpha, gap_scale, log: text(method, "transform") == "log" }))
    },
};

struct Odpo {
    alpha: f64,
    gap_scale: f64,
    log: bool,
}

impl PairLoss for Odpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let [w, l] = pairs.scores();
        let gap = (w - l) * self.gap_scale;
        let offset = if self.log { gap.clamp_min(LEAST_GAP).log() } else { gap };
        -(pairs.u() - offset * self.alpha).log_sigmoid()
    }
}
