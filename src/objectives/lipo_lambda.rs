//! LiPO-lambda: "Listwise Preference Optimization through Learning-to-Rank", arXiv 2402.01878 (docs/methods.md, section 15).
//!
//! ```text
//! loss = sum over psi_i > psi_j of D_ij log(1 + e^-(s_i - s_j))
//! D_ij as Delta of rankdpo, with tau = rank by the model's own s, detached
//! ```
//!
//! s is rounded to 1e-3 before it is ranked: in the first step, where all s are 0, ranks would else be those of rounding
//! noise. Ties keep the order of the list.

use super::rankdpo::{deltas, pair_losses};
use super::{
    BETA, ERROR, Entry, List, ListLoss, Needs, Objective, PROMPT_DROPOUT, SHARED_NOISE, Step, Terms, descending,
};
use tch::{Kind, Tensor};

pub const ENTRY: Entry = Entry {
    name: "lipo_lambda",
    keys: &[BETA, SHARED_NOISE, PROMPT_DROPOUT, ERROR],
    needs: Needs { weights: true, ..Needs::LISTS },
    build: |_| Objective::Lists(Box::new(LipoLambda)),
};

struct LipoLambda;

impl ListLoss for LipoLambda {
    fn terms(&self, list: &List, _: &Step) -> Option<Terms> {
        let weights = list.like(&deltas(&list.phi, &descending(&rounded(&list.s))));
        Some(Terms { losses: pair_losses(list), weights: Some(weights) })
    }
}

/// Rounds to 1e-3, halves to even as torch does.
fn rounded(s: &Tensor) -> Vec<f64> {
    let s = (s.detach().to_kind(Kind::Double).to_device(tch::Device::Cpu) * 1000.0).round();
    // + 0.0 turns -0 into the 0 that it ties with.
    s.iter::<f64>().map(|values| values.map(|x| x + 0.0).collect()).unwrap_or_default()
}
