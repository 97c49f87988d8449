//! AOT without pairs: "Distributional Preference Alignment of LLMs via Optimal Transport", arXiv 2406.05882.
//!
//! ```text
//! u_(i) = z_(i) - y_(i)      implicit rewards of winners and losers, each column sorted on its own over the step
//! loss = mean_i -(1 - eps) log sigma(u_(i)) - eps log sigma(-u_(i))
//! ```
//!
//! Rewards of winners shall be larger than those of losers at every quantile. Columns of labelled images differ in
//! length: the quantile function of the shorter one is read at (i - 1/2) / n, i = 1..n, n the length of the longer one.
//! The loss of a place goes to the image of the longer column; images of the shorter one have none of their own.

use super::aot::{BINS, LABEL_NOISE, LEAST, of_places};
use super::groups::index;
use super::quantiles::{ascending, at_middles};
use super::{
    BETA_AUTO, BetaRule, Entry, ITEMS, LabelLoss, Labels, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Rows,
    Step, WholeStep,
};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "AOT, unpaired",
    paper: "arXiv 2406.05882",
    cost: "1 (1.5 with accumulation)",
    when: "good and bad pictures that do not share prompts",
    page: "distribution.md#aot_unpaired",
    ..Entry::of::<AotUnpaired>("aot_unpaired")
};

crate::keys! {
    pub struct AotUnpaired {
        beta: BetaRule = BETA_AUTO,
        items: Rows = ITEMS,
        bins: i64 = BINS,
        label_noise: f64 = LABEL_NOISE,
        ; offline: Offline,
    }
}

impl MethodKeys for AotUnpaired {
    fn method(self) -> Method {
        let needs = Needs {
            items: self.items.kind(),
            whole_step: Some(WholeStep { least: LEAST, block: None }),
            ..Needs::pairs(self.beta, self.offline)
        };
        match self.items {
            Rows::Pairs => Method::pairs(needs, self),
            Rows::Labels => Method::labels(needs, self),
        }
    }
}

impl PairLoss for AotUnpaired {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let (z, y) = (pairs.z(), pairs.y());
        let mut losses = z.zeros_like();
        for members in pairs.places().by_level(self.bins) {
            let members = index(&members, &z);
            let (z, order) = ascending(&z.index_select(0, &members));
            let (y, _) = ascending(&y.index_select(0, &members));
            losses = losses.index_add(0, &members.index_select(0, &order), &of_places(&(z - y), self.label_noise));
        }
        losses
    }
}

impl AotUnpaired {
    /// Desirable and undesirable images that are sorted together.
    fn columns(&self, labels: &Labels) -> Vec<[Vec<i64>; 2]> {
        labels.sides(labels.places().by_level(self.bins))
    }
}

impl LabelLoss for AotUnpaired {
    fn losses(&self, labels: &Labels, _: &Step) -> Tensor {
        let rewards = labels.rewards();
        let mut losses = rewards.zeros_like();
        for [good, bad] in self.columns(labels) {
            let n = good.len().max(bad.len()) as i64;
            let (good, bad) = (index(&good, &rewards), index(&bad, &rewards));
            let (z, order_z) = ascending(&rewards.index_select(0, &good));
            let (y, order_y) = ascending(&rewards.index_select(0, &bad));
            let u = at_middles(&z, n) - at_middles(&y, n);
            let longer = match good.size()[0] == n {
                true => good.index_select(0, &order_z),
                false => bad.index_select(0, &order_y),
            };
            losses = losses.index_add(0, &longer, &of_places(&u, self.label_noise));
        }
        losses
    }

    fn counted(&self, labels: &Labels) -> Option<Vec<bool>> {
        let mut counted = vec![false; labels.sign.numel()];
        for [good, bad] in self.columns(labels) {
            let longer = if good.len() >= bad.len() { good } else { bad };
            longer.into_iter().for_each(|i| counted[i as usize] = true);
        }
        Some(counted)
    }
}
