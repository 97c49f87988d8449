//! UAPO: winner and loser each compared with an anchor that is trained too, arXiv 2509.10515, as read from its abstract
//! and project page.
//!
//! ```text
//! loss = -log sigma(z - d) - log sigma(d - y),   d trained from 0 by gradient descent with its own rate
//! ```
//!
//! A labelled image has the one term of its class. bco is the same loss with d the mean of all z and y so far. The
//! anchor that depends on the prompt is not built.

use super::statistics::{Law, Statistic};
use super::{
    BETA, BetaRule, Entry, ITEMS, LabelLoss, Labels, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Rows, Step,
};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "UAPO",
    paper: "arXiv 2509.10515",
    cost: "1",
    when: "pairs and single pictures that should have one threshold",
    page: "pairwise.md#losses-of-both-images-apart",
    ..Entry::of::<Uapo>("uapo")
};

crate::keys! {
    pub struct Uapo {
        beta: BetaRule = BETA,
        items: Rows = ITEMS,
        /// rate of the anchor's own gradient descent
        anchor_lr: f64 = within(Range::NOT_NEGATIVE).or("0.01"),
        ; offline: Offline,
    }
}

impl MethodKeys for Uapo {
    fn method(self) -> Method {
        let needs = Needs {
            items: self.items.kind(),
            statistic: Some(Statistic { name: "uapo_anchor", law: Law::Learned { rate: self.anchor_lr } }),
            ..Needs::pairs(self.beta, self.offline)
        };
        match self.items {
            Rows::Pairs => Method::pairs(needs, self),
            Rows::Labels => Method::labels(needs, self),
        }
    }
}

/// -log sigma(z - d)
fn above(z: &Tensor, d: f64) -> Tensor {
    -(z - d).log_sigmoid()
}

/// -log sigma(d - y)
fn below(y: &Tensor, d: f64) -> Tensor {
    -(d - y).log_sigmoid()
}

/// Derivative of [`above`] with respect to d
fn above_slope(z: &Tensor, d: f64) -> Tensor {
    (d - z).sigmoid()
}

/// Derivative of [`below`] with respect to d
fn below_slope(y: &Tensor, d: f64) -> Tensor {
    -(y - d).sigmoid()
}

impl PairLoss for Uapo {
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor {
        above(&pairs.z(), step.statistic) + below(&pairs.y(), step.statistic)
    }

    fn statistic(&self, pairs: &Pairs, step: &Step) -> Tensor {
        above_slope(&pairs.z(), step.statistic) + below_slope(&pairs.y(), step.statistic)
    }
}

impl LabelLoss for Uapo {
    fn losses(&self, labels: &Labels, step: &Step) -> Tensor {
        let (rewards, d) = (labels.rewards(), step.statistic);
        above(&rewards, d).where_self(&labels.sign.gt(0.0), &below(&rewards, d))
    }

    fn statistic(&self, labels: &Labels, step: &Step) -> Tensor {
        let (rewards, d) = (labels.rewards(), step.statistic);
        above_slope(&rewards, d).where_self(&labels.sign.gt(0.0), &below_slope(&rewards, d))
    }
}
