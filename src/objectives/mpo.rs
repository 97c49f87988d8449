//! MPO: the images above the mean of their list against all of it, arXiv 2412.04628 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log(sum_chosen e^s_i e^(a |S_i - mean S|) / sum_all e^s_i e^(a |S_i - mean S|)),   chosen: S_i > mean S
//! ```
//!
//! A list of equal S is left out. The form is an assumption; there is no public code.

use super::{BETA, ERROR, Entry, List, ListLoss, Needs, Objective, PROMPT_DROPOUT, SHARED_NOISE, Step, Terms, real};
use crate::keys::{Default, Kind, Range, key};

pub const ENTRY: Entry = Entry {
    name: "mpo",
    keys: &[
        BETA,
        SHARED_NOISE,
        key("a", Kind::Real(Range::NOT_NEGATIVE), Default::Toml("1.0"), "weight of the distance from the mean"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs::LISTS,
    build: |method| Objective::Lists(Box::new(Mpo { a: real(method, "a") })),
};

struct Mpo {
    a: f64,
}

impl ListLoss for Mpo {
    fn terms(&self, list: &List, _: &Step) -> Option<Terms> {
        let mean = list.phi.iter().sum::<f64>() / list.phi.len() as f64;
        let chosen: Vec<usize> = (0..list.phi.len()).filter(|i| list.phi[*i] > mean).collect();
        if list.ranked_pairs().is_empty() || chosen.is_empty() {
            return None;
        }
        let distance: Vec<f64> = list.phi.iter().map(|phi| self.a * (phi - mean).abs()).collect();
        let weighted = &list.s + list.like(&distance);
        let loss = weighted.logsumexp([0i64].as_slice(), true)
            - List::pick(&weighted, chosen.into_iter()).logsumexp([0i64].as_slice(), true);
        Some(Terms { losses: loss, weights: None })
    }
}
