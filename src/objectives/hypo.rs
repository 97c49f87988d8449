//! HyPO: the reference counts only where it agrees with the label, arXiv 2602.11902 (docs/methods.md, section 15).
//!
//! ```text
//! h = (e_theta(l) - e_theta(w)) - max(0, e_ref(l) - e_ref(w))
//! loss = -log sigma(0.5 beta h)
//! ```
//!
//! It does not start at u = 0: differences of content enter at full beta.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "HyPO",
    paper: "arXiv 2602.11902",
    cost: "1",
    when: "an idea of which only an abstract is public",
    page: "pairwise.md#hypo",
    ..Entry::of::<Hypo>("hypo")
};

crate::keys! {
    pub struct Hypo {
        beta: BetaRule = BETA_AUTO,
        ; offline: Offline,
    }
}

impl MethodKeys for Hypo {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

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
