//! ODPO: the logit must exceed an offset that grows with the gap of the scores, arXiv 2402.10571 (docs/methods.md,
//! section 15).
//!
//! ```text
//! loss = -log sigma(u - alpha f(gap)),   gap = gap_scale (r_w - r_l)
//! f = log max(gap, 0.001), or the identity
//! ```
//!
//! log of a small gap is strongly negative, which removes the margin requirement.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, SCORER, Scored, Step};
use crate::keys::{Range, one_of, within};
use tch::Tensor;

const LEAST_GAP: f64 = 0.001;

pub const ENTRY: Entry = Entry {
    title: "ODPO",
    paper: "arXiv 2402.10571",
    cost: "1",
    when: "scores whose distances mean something",
    page: "pairwise.md#losses-that-read-scores",
    ..Entry::of::<Odpo>("odpo")
};

crate::choice! {
    /// f of the gap of scores
    pub enum Transform {
        Log = "log",
        Identity = "identity",
    }
}

crate::keys! {
    pub struct Odpo {
        beta: BetaRule = BETA_AUTO,
        /// factor of the offset
        alpha: f64 = within(Range::NOT_NEGATIVE).or("1.0"),
        /// f of the gap
        transform: Transform = one_of::<Transform>().or_text("log"),
        /// units of the scores
        gap_scale: f64 = within(Range::POSITIVE).or("100.0"),
        scorer: Option<String> = SCORER,
        ; offline: Offline,
    }
}

impl MethodKeys for Odpo {
    fn method(self) -> Method {
        let needs = Needs { scores: Some(Scored::by(self.scorer.clone())), ..Needs::pairs(self.beta, self.offline) };
        Method::pairs(needs, self)
    }
}

impl PairLoss for Odpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let [w, l] = pairs.scores();
        let gap = (w - l) * self.gap_scale;
        let offset = match self.transform {
            Transform::Log => gap.clamp_min(LEAST_GAP).log(),
            Transform::Identity => gap,
        };
        -(pairs.u() - offset * self.alpha).log_sigmoid()
    }
}
