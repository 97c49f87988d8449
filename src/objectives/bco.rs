//! BCO: a classifier of winners and losers around a moving threshold (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log sigma(z - d) - log sigma(-(y - d)),   d = mean of all z and y so far
//! ```
//!
//! d is detached and counts whole steps, the one in hand included.

use super::statistics::{Law, Statistic};
use super::{BETA, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "bco",
    keys: &[BETA, PROMPT_DROPOUT, ERROR],
    needs: Needs { statistic: Some(Statistic { name: "bco_threshold", law: Law::AllSteps }), ..Needs::PAIRS },
    build: |_| Objective::Pairs(Box::new(Bco)),
};

struct Bco;

impl PairLoss for Bco {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        let d = step.statistic;
        -(pairs.z() - d).log_sigmoid() - (d - pairs.y()).log_sigmoid()
    }

    fn statistic(&self, pairs: &Pairs) -> Tensor {
        Tensor::cat(&[pairs.z(), pairs.y()], 0)
    }
}
