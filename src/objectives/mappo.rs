//! MaPPO: prior knowledge of how much better the winner is, arXiv 2507.21183 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(z - dr y),   dr = r_w - r_l in [0, 1],   r = (score - lo) / (hi - lo)
//! ```
//!
//! dr = 1 is DPO.

use super::{
    BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, SCORE_RANGE, SCORER, Step, score_range,
};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "mappo",
    keys: &[BETA_AUTO, SCORER, SCORE_RANGE, PROMPT_DROPOUT, ERROR],
    needs: Needs { scores: true, ..Needs::PAIRS },
    build: |method| Objective::Pairs(Box::new(Mappo { range: score_range(method) })),
};

struct Mappo {
    range: [f64; 2],
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
        let [low, high] = self.range;
        ((w - l) / (high - low)).clamp(0.0, 1.0)
    }
}
