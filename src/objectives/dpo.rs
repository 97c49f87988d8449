//! Diffusion-DPO: "Diffusion Model Alignment Using Direct Preference Optimization", arXiv 2311.12908, in the form its
//! public training code computes (docs/methods.md, section 1).
//!
//! ```text
//! u = 0.5 beta h,   h = (e_ref(w) - e_theta(w)) - (e_ref(l) - e_theta(l))
//! loss = -log sigma(u)
//! ```
//!
//! In the paper winner and loser have separate noise. Its code, like this one, shares noise and timestep in a pair.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "Diffusion-DPO",
    paper: "arXiv 2311.12908",
    cost: "1",
    when: "first: what all others are measured against",
    page: "dpo.md",
    ..Entry::of::<Dpo>("dpo")
};

crate::keys! {
    pub struct Dpo {
        beta: BetaRule = BETA_AUTO,
        ; offline: Offline,
    }
}

impl MethodKeys for Dpo {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), Logistic)
    }
}

/// Also the loss of methods that differ from DPO only in their inputs.
pub struct Logistic;

impl PairLoss for Logistic {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        -pairs.u().log_sigmoid()
    }
}
