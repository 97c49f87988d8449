//! DSPO, as its SD1.5 code computes it: "Direct Score Preference Optimization for Diffusion Model Alignment" (ICLR 2025;
//! docs/methods.md, section 11a).
//!
//! ```text
//! d = eps_theta(w) - eps_ref(w),   c = beta (1 - sigma(u))
//! loss = mean | (eps_theta(w) - eps) - c d |^2 = e_theta(w) - 2 c mean (eps_theta(w) - eps) d + c^2 mean d^2
//! ```
//!
//! sigma(u) is not detached: the loser gets its gradient through it. beta is inside u and outside. With the published
//! beta of 0.001 this is supervised fine-tuning up to 0.05 %.

use super::{BETA, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "DSPO, SD1.5 code",
    paper: "",
    cost: "1",
    when: "to reproduce DSPO",
    page: "dspo.md",
    ..Entry::of::<DspoScore>("dspo_score")
};

crate::keys! {
    pub struct DspoScore {
        beta: BetaRule = BETA.or("0.001"),
        ; offline: Offline,
    }
}

impl MethodKeys for DspoScore {
    fn method(self) -> Method {
        let needs = Needs { drift: true, safeguard_mu: 0.2, ..Needs::pairs(self.beta, self.offline) };
        Method::pairs(needs, self)
    }
}

impl PairLoss for DspoScore {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        let c = (-pairs.u()).sigmoid() * step.beta;
        let drift = pairs.drift();
        pairs.theta_w() - &c * &drift.pull * 2.0 + c.square() * &drift.square
    }
}
