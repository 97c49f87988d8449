//! AOT on pairs: "Distributional Preference Alignment of LLMs via Optimal Transport", arXiv 2406.05882.
//!
//! ```text
//! a_i = -0.5 beta (e_theta(w) - e_theta(l)),   b_i = -0.5 beta (e_ref(w) - e_ref(l))
//! u_(i) = a_(i) - b_(i)      each column sorted on its own, over all pairs of the step
//! loss = mean_i -(1 - eps) log sigma(u_(i)) - eps log sigma(-u_(i))
//! ```
//!
//! The policy's margins shall be larger than the reference's at every quantile. The loss of a place goes to the pair
//! whose margin a is sorted into it. One pair alone: dpo. The spread of a and b comes from noise levels and content:
//! `bins` above 1, which is no part of the paper, sorts pairs of like level only.

use super::groups::index;
use super::quantiles::ascending;
use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step, WholeStep};
use crate::keys::{Key, Range, whole, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "AOT",
    paper: "arXiv 2406.05882",
    cost: "1 (1.5 with accumulation)",
    when: "margins of the whole set that should move, not those of single pairs",
    page: "distribution.md#aot",
    ..Entry::of::<Aot>("aot")
};

pub(super) const BINS: Key =
    whole(1, 1000).or("1").helped(" equal parts of the noise levels, each sorted alone; 1 as published");
pub(super) const LABEL_NOISE: Key =
    within(Range::UNIT).or("0.0").helped(" share of places that are wrong, as label_noise of cdpo");
/// Fewest items per step: quantiles of fewer are single pairs.
pub(super) const LEAST: u64 = 8;

crate::keys! {
    pub struct Aot {
        beta: BetaRule = BETA_AUTO,
        bins: i64 = BINS,
        label_noise: f64 = LABEL_NOISE,
        ; offline: Offline,
    }
}

impl MethodKeys for Aot {
    fn method(self) -> Method {
        let whole_step = Some(WholeStep { least: LEAST, block: None });
        Method::pairs(Needs { whole_step, ..Needs::pairs(self.beta, self.offline) }, self)
    }
}

impl PairLoss for Aot {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let a = (pairs.theta_l() - pairs.theta_w()) * pairs.half_beta();
        let b = (pairs.ref_l() - pairs.ref_w()) * pairs.half_beta();
        let mut losses = a.zeros_like();
        for members in pairs.places().by_level(self.bins) {
            let members = index(&members, &a);
            let (a, order) = ascending(&a.index_select(0, &members));
            let (b, _) = ascending(&b.index_select(0, &members));
            losses = losses.index_add(0, &members.index_select(0, &order), &of_places(&(a - b), self.label_noise));
        }
        losses
    }
}

/// Losses of the logits `[n]` of places.
pub(super) fn of_places(u: &Tensor, label_noise: f64) -> Tensor {
    u.log_sigmoid() * (label_noise - 1.0) - (-u).log_sigmoid() * label_noise
}
