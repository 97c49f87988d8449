//! RankDPO: "Scalable Ranked Preference Optimization for Text-to-Image Generation", arXiv 2410.18013
//! (docs/methods.md, section 8): DPO over all pairs of a list, weighted by the value of their order.
//!
//! ```text
//! loss = -sum over phi_i > phi_j of Delta_ij log sigma(s_i - s_j),   s_i = 0.5 beta h_i
//! Delta_ij = |G_i - G_j| |1 / D(tau_i) - 1 / D(tau_j)|,   G = 2^phi - 1,   D = log(1 + tau),   tau = rank by phi
//! ```
//!
//! Noise is drawn for each image, t is shared.

use super::{
    BETA, BetaRule, Entry, List, ListLoss, Method, MethodKeys, Needs, Offline, SHARED_NOISE, Step, Terms, descending,
};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "RankDPO",
    paper: "arXiv 2410.18013",
    cost: "1",
    when: "several images per prompt, scored by several models",
    page: "lists.md",
    ..Entry::of::<RankDpo>("rankdpo")
};

crate::keys! {
    pub struct RankDpo {
        beta: BetaRule = BETA,
        shared_noise: bool = SHARED_NOISE,
        ; offline: Offline,
    }
}

impl MethodKeys for RankDpo {
    fn method(self) -> Method {
        let needs = Needs { data_weights: true, ..Needs::lists(self.beta, self.shared_noise, self.offline) };
        Method::lists(needs, self)
    }
}

impl ListLoss for RankDpo {
    fn terms(&self, list: &List, _: &Step) -> Option<Terms> {
        let weights = list.like(&deltas(&list.phi, &descending(&list.phi)));
        Some(Terms { losses: pair_losses(list), weights: Some(weights) })
    }

    fn data_weights(&self, phi: &[f64]) -> Option<Vec<f64>> {
        Some(deltas(phi, &descending(phi)))
    }
}

/// log(1 + e^(-(s_i - s_j))) of every ranked pair, `[m]`.
pub(super) fn pair_losses(list: &List) -> Tensor {
    let pairs = list.ranked_pairs();
    let better = List::pick(&list.s, pairs.iter().map(|p| p.0));
    let worse = List::pick(&list.s, pairs.iter().map(|p| p.1));
    -(better - worse).log_sigmoid()
}

/// Delta of every ranked pair; `order` lists the images from rank 1 on.
pub(super) fn deltas(phi: &[f64], order: &[usize]) -> Vec<f64> {
    let mut discount = vec![0.0; phi.len()];
    for (place, image) in order.iter().enumerate() {
        discount[*image] = 1.0 / (2.0 + place as f64).ln();
    }
    let gain = |i: usize| phi[i].exp2() - 1.0;
    let delta = |(i, j): (usize, usize)| (gain(i) - gain(j)).abs() * (discount[i] - discount[j]).abs();
    super::ranked_pairs(phi).into_iter().map(delta).collect()
}
