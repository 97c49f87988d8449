//! SmPO: "Smoothed Preference Optimization via ReNoise Inversion for Aligning Diffusion Models with Varied Human
//! Preferences", arXiv 2506.02698 (docs/methods.md, section 5).
//!
//! ```text
//! r' = (score - lo) / (hi - lo),   p = e^r'_w / (e^r'_w + e^r'_l)
//! u = gamma (2 p - 1) 0.5 beta h,   loss = -log sigma(u)
//! ```
//!
//! Errors are those of inpo, with latents by ReNoise inversion. Pairs are ranked by the scorer, whatever people said. p is
//! taken a pair; the public code reads it from the first pair of a batch.

use super::{BETA_AUTO, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, SCORE_RANGE, SCORER, Step};
use super::{inpo, real, score_range};
use crate::keys::{Default, Key, Kind, Range, key};
use tch::Tensor;

const BETA: Key = Key { default: Default::ByFamily("2000.0"), ..BETA_AUTO };

pub const ENTRY: Entry = Entry {
    name: "smpo",
    keys: &[
        BETA,
        key("gamma", Kind::Real(Range::POSITIVE), Default::Toml("10.0"), "scale of the smoothed preference"),
        inpo::INVERSION,
        Key { default: Default::Toml("5"), ..inpo::INVERSION_STEPS },
        SCORER,
        SCORE_RANGE,
        PROMPT_DROPOUT,
        super::ERROR,
    ],
    needs: Needs { scores: true, score_labels: true, inversion: Some(super::needs::Inverter::ReNoise), ..Needs::PAIRS },
    build: |method| Objective::Pairs(Box::new(Smpo { gamma: real(method, "gamma"), range: score_range(method) })),
};

struct Smpo {
    gamma: f64,
    range: [f64; 2],
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
        let [low, high] = self.range;
        let p = ((w - l) / (high - low)).sigmoid();
        (p * 2.0 - 1.0) * self.gamma
    }
}
