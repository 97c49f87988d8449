//! DSPO, as its SD1.5 code computes it: "Direct Score Preference Optimization for Diffusion Model Alignment" (ICLR 2025;
//! docs/methods.md, section 11a).
//!
//! ```text
//! d = eps_theta(w) - eps_ref(w),   c = beta (1 - sigma(u))
//! loss = mean | (eps_theta(w) - eps) - c d |^2 = e_theta(w) - 2 c mean (eps_theta(w) - eps) d + c^2 mean d^2
//! ```
//!
//! sigma(u) is not detached: the loser is reached through it. beta stands inside u and outside. With the published beta of
//! 0.001 this is supervised fine-tuning but for 0.05 %.

use super::{ERROR, Entry, Needs, Objective, PROMPT_DROPOUT, PairLoss, Pairs, Step};
use crate::keys::{Default, Key};
use tch::Tensor;

const BETA: Key = Key { default: Default::Toml("0.001"), ..super::BETA };

pub const ENTRY: Entry = Entry {
    name: "dspo_score",
    keys: &[BETA, PROMPT_DROPOUT, ERROR],
    needs: Needs { drift: true, safeguard_mu: 0.2, ..Needs::PAIRS },
    build: |_| Objective::Pairs(Box::new(DspoScore)),
};

struct DspoScore;

impl PairLoss for DspoScore {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        let c = (-pairs.u()).sigmoid() * step.beta;
        let drift = pairs.drift();
        pairs.theta_w() - &c * &drift.pull * 2.0 + c.square() * &drift.square
    }
}
