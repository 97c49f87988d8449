//! MaPPO: prior knowledge of how much better the winner is, arXiv 2507.21183 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(z - dr y),   dr = r_w - r_l in [0, 1],   r = (score - lo) / (hi - lo)
//! ```
//!
//! dr = 1 is DPO.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Scores, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "MaPPO",
    paper: "arXiv 2507.21183",
    cost: "1",
    when: "scores whose distances mean something",
    page: "pairwise.md#losses-that-read-scores",
    ..Entry::of::<Mappo>("mappo")
};

crate::keys! {
    pub struct Mappo {
        beta: BetaRule = BETA_AUTO,
        ; scores: Scores, offline: Offline,
    }
}

impl MethodKeys for Mappo {
    fn method(self) -> Method {
        let needs = Needs { scores: Some(self.scores.need()), ..Needs::pairs(self.beta, self.offline) };
        Method::pairs(needs, self)
    }
}

impl PairLoss for Mappo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        -(pairs.z() - self.gap(pairs) * pairs.y()).log_sigmoid()
    }

    fn multiplier(&self, pairs: &Pairs) -> Option<Tensor> {
        Some(self.gap(pairs))
    }
}

impl Mappo {
    /// dr
    fn gap(&self, pairs: &Pairs) -> Tensor {
        let [w, l] = pairs.scores();
        let [low, high] = self.scores.range();
        ((w - l) / (high - low)).clamp(0.0, 1.0)
    }
}
