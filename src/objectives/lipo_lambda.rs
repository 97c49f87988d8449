//! LiPO-lambda: "Listwise Preference Optimization through Learning-to-Rank", arXiv 2402.01878 (docs/methods.md, section 15).
//!
//! ```text
//! loss = sum over psi_i > psi_j of D_ij log(1 + e^-(s_i - s_j))
//! D_ij as Delta of rankdpo, with tau = rank by the model's own s, detached
//! ```
//!
//! s is rounded to 1e-3 before it is ranked. Otherwise ranks of the first step, where all s are 0, would be those of
//! rounding noise. Ties keep the order of the list.

use super::rankdpo::{deltas, pair_losses};
use super::{
    BETA, BetaRule, Entry, List, ListLoss, Method, MethodKeys, Needs, Offline, SHARED_NOISE, Step, Terms, descending,
};
use tch::{Kind, Tensor};

pub const ENTRY: Entry = Entry {
    title: "LiPO-lambda",
    paper: "arXiv 2402.01878",
    cost: "1",
    when: "another loss of lists",
    page: "lists.md",
    ..Entry::of::<LipoLambda>("lipo_lambda")
};

crate::keys! {
    pub struct LipoLambda {
        beta: BetaRule = BETA,
        shared_noise: bool = SHARED_NOISE,
        ; offline: Offline,
    }
}

impl MethodKeys for LipoLambda {
    fn method(self) -> Method {
        let needs = Needs { weights: true, ..Needs::lists(self.beta, self.shared_noise, self.offline) };
        Method::lists(needs, self)
    }
}

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
