//! Plackett-Luce: the likelihood of a whole ranking (docs/methods.md, section 15).
//!
//! ```text
//! loss = -sum_k log(e^s_k / (e^s_k + sum over psi_j < psi_k of e^s_j)),   s_i = 0.5 beta h_i
//! ```
//!
//! Images of equal psi are not compared: the order of the file is no preference. Without equal ones this is the published form.

use super::{BETA, BetaRule, Entry, List, ListLoss, Method, MethodKeys, Needs, Offline, SHARED_NOISE, Step, Terms};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "Plackett-Luce",
    paper: "",
    cost: "1",
    when: "another loss of lists",
    page: "lists.md",
    ..Entry::of::<PlackettLuce>("plackett_luce")
};

crate::keys! {
    pub struct PlackettLuce {
        beta: BetaRule = BETA,
        shared_noise: bool = SHARED_NOISE,
        ; offline: Offline,
    }
}

impl MethodKeys for PlackettLuce {
    fn method(self) -> Method {
        Method::lists(Needs::lists(self.beta, self.shared_noise, self.offline), self)
    }
}

impl ListLoss for PlackettLuce {
    fn terms(&self, list: &List, _: &Step) -> Option<Terms> {
        Some(Terms { losses: loss(&list.s, &list.phi).unsqueeze(0), weights: None })
    }
}

/// Negative log-likelihood of the ranking by `worth` under `logits` `[k]`, a scalar. Images of equal worth are not
/// compared.
pub fn loss(logits: &Tensor, worth: &[f64]) -> Tensor {
    let of_place = |k: usize| {
        let worse = (0..worth.len()).filter(|j| worth[*j] < worth[k]);
        let compared = List::pick(logits, std::iter::once(k).chain(worse));
        compared.logsumexp([0i64].as_slice(), false) - compared.get(0)
    };
    let losses: Vec<Tensor> = (0..worth.len()).map(of_place).collect();
    Tensor::stack(&losses, 0).sum(logits.kind())
}
