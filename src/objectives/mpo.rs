//! MPO: the images above the mean of their list against all of it, arXiv 2412.04628 (docs/methods.md, section 15).
//!
//! ```text
//! loss = -log(sum_chosen e^s_i e^(a |S_i - mean S|) / sum_all e^s_i e^(a |S_i - mean S|)),   chosen: S_i > mean S
//! ```
//!
//! A list of equal S is left out. The form is an assumption; there is no public code.

use super::{BETA, BetaRule, Entry, List, ListLoss, Method, MethodKeys, Needs, Offline, SHARED_NOISE, Step, Terms};
use crate::keys::{Range, within};

pub const ENTRY: Entry = Entry {
    title: "MPO",
    paper: "arXiv 2412.04628",
    cost: "1",
    when: "another loss of lists",
    page: "lists.md",
    ..Entry::of::<Mpo>("mpo")
};

crate::keys! {
    pub struct Mpo {
        beta: BetaRule = BETA,
        shared_noise: bool = SHARED_NOISE,
        /// weight of the distance from the mean
        a: f64 = within(Range::NOT_NEGATIVE).or("1.0"),
        ; offline: Offline,
    }
}

impl MethodKeys for Mpo {
    fn method(self) -> Method {
        Method::lists(Needs::lists(self.beta, self.shared_noise, self.offline), self)
    }
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
