//! HyPO: the reference counts only where it agrees with the label, arXiv 2602.11902 (docs/methods.md, section 15).
//!
//! ```text
//! h = (e_theta(l) - e_theta(w)) - max(0, e_ref(l) - e_ref(w))
//! loss = -log sigma(0.5 beta h)
//! ```
//!
//! It does not start at u = 0: differences of content enter at full beta.

use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "hypo",
    keys: &[BETA_AUTO, PROMPT_DROPOUT, ERROR],
    needs: Needs::PAIRS,
    build: |_| Objective::Pairs(Box::new(Hypo)),
};

struct Hypo;

impl PairLoss for Hypo {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        -self.logits(pairs, step).log_sigmoid()
    }

    fn logits(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let model = pairs.theta_l() - pairs.theta_w();
        let reference = (pairs.ref_l() - pairs.ref_w()).relu();
        (model - reference) * pairs.half_beta()
    }
}
