//! Plackett-Luce: the likelihood of a whole ranking (docs/methods.md, section 15).
//!
//! ```text
//! loss = -sum_k log(e^s_k / sum_{j >= k} e^s_j),   k by descending psi,   s_i = 0.5 beta h_i
//! ```

use super::{BETA, ERROR, Entry, List, ListLoss, Needs, Objective, PROMPT_DROPOUT, SHARED_NOISE, Terms, descending};

pub const ENTRY: Entry = Entry {
    name: "plackett_luce",
    keys: &[BETA, SHARED_NOISE, PROMPT_DROPOUT, ERROR],
    needs: Needs::LISTS,
    build: |_| Objective::Lists(Box::new(PlackettLuce)),
};

struct PlackettLuce;

impl ListLoss for PlackettLuce {
    fn terms(&self, list: &List) -> Option<Terms> {
        if list.ranked_pairs().is_empty() {
            return Some(Terms { losses: list.s.sum(list.s.kind()).unsqueeze(0) * 0.0, weights: None });
        }
        let s = List::pick(&list.s, descending(&list.phi).into_iter());
        // log of the sum over what is ranked here or later, from the end.
        let later = s.flip([0]).logcumsumexp(0).flip([0]);
        Some(Terms { losses: (later - s).sum(list.s.kind()).unsqueeze(0), weights: None })
    }
}
