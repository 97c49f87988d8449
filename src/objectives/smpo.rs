//! SmPO: "Smoothed Preference Optimization via ReNoise Inversion for Aligning Diffusion Models with Varied Human
//! Preferences", arXiv 2506.02698 (docs/methods.md, section 5).
//!
//! ```text
//! r' = (score - lo) / (hi - lo),   p = e^r'_w / (e^r'_w + e^r'_l)
//! u = gamma (2 p - 1) 0.5 beta h,   loss = -log sigma(u)
//! ```
//!
//! Errors are those of inpo, with latents by ReNoise inversion. Pairs are ranked by the scorer, not by human labels.
//! p is computed per pair; the public code reads it from the first pair of a batch.

use super::needs::{INVERSION, INVERSION_STEPS};
use super::{
    BETA_AUTO, BetaRule, Entry, Inversion, InversionGrid, Inverter, Method, MethodKeys, Needs, Offline, PairLoss,
    Pairs, Scored, Scores, Step,
};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "SmPO",
    paper: "arXiv 2506.02698",
    cost: "2.5",
    when: "noisy human labels and a scorer worth trusting",
    page: "smpo.md",
    ..Entry::of::<Smpo>("smpo")
};

crate::keys! {
    pub struct Smpo {
        beta: BetaRule = BETA_AUTO.by_family("2000.0"),
        /// scale of the smoothed preference
        gamma: f64 = within(Range::POSITIVE).or("10.0"),
        inversion: InversionGrid = INVERSION,
        inversion_steps: i64 = INVERSION_STEPS.or("5"),
        ; scores: Scores, offline: Offline,
    }
}

impl MethodKeys for Smpo {
    fn method(self) -> Method {
        let needs = Needs {
            scores: Some(Scored { ranks: true, ..self.scores.need() }),
            inversion: Some(Inversion {
                inverter: Inverter::ReNoise,
                grid: self.inversion,
                steps: self.inversion_steps,
                eta: 0.0,
            }),
            ..Needs::pairs(self.beta, self.offline)
        };
        Method::pairs(needs, self)
    }
}

impl PairLoss for Smpo {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        -self.logits(pairs, step).log_sigmoid()
    }

    fn logits(&self, pairs: &Pairs, _: &Step) -> Tensor {
        pairs.u() * self.factor(pairs)
    }

    fn multiplier(&self, pairs: &Pairs) -> Option<Tensor> {
        Some(self.factor(pairs))
    }
}

impl Smpo {
    /// gamma (2 p - 1)
    fn factor(&self, pairs: &Pairs) -> Tensor {
        let [w, l] = pairs.scores();
        let [low, high] = self.scores.range();
        let p = ((w - l) / (high - low)).sigmoid();
        (p * 2.0 - 1.0) * self.gamma
    }
}
