//! Plackett-Luce: the likelihood of a whole ranking (docs/methods.md, section 15).
//!
//! ```text
//! loss = -sum_k log(e^s_k / (e^s_k + sum over psi_j < psi_k of e^s_j)),   s_i = 0.5 beta h_i
//! ```
//!
//! Images of equal psi are not compared: the order of the file is no preference. Without equal ones this is the published form.

use super::{BETA, ERROR, Entry, List, ListLoss, Needs, Objective, PROMPT_DROPOUT, SHARED_NOISE, Step, Terms};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    name: "plackett_luce",
    keys: &[BETA, SHARED_NOISE, PROMPT_DROPOUT, ERROR],
    needs: Needs::LISTS,
    build: |_| Objective::Lists(Box::new(PlackettLuce)),
};

struct PlackettLuce;

impl ListLoss for PlackettLuce {
    fn terms(&self, list: &List, _: &Step) -> Option<Terms> {
        let of_image = |k: usize| {
            let worse = (0..list.phi.len()).filter(|j| list.phi[*j] < list.phi[k]);
            let compared = List::pick(&list.s, std::iter::once(k).chain(worse));
            compared.logsumexp([0i64].as_slice(), false) - compared.get(0)
        };
        let losses: Vec<Tensor> = (0..list.phi.len()).map(of_image).collect();
        Some(Terms { losses: Tensor::stack(&losses, 0).sum(list.s.kind()).unsqueeze(0), weights: None })
    }
}
