//! Margins that follow how certain a label is: RLHF secrets II (arXiv 2401.06080) by the strength of pairs, and margins
//! by votes.
//!
//!     L = -log sigmoid(r_w - r_l - m)
//!     strength   m = mean of the ensemble's differences; an ambiguous pair has m = 0 and its soft label y
//!     votes      m = k (2 p - 1), p the share of the votes for the winner

use super::head::{Batch, Head, Input, Measured};
use super::pickscore::{difference, difference_of, similarity};
use super::shared::cross_entropy;
use crate::keys::{Range, one_of, within};
use serde::{Deserialize, Serialize};
use tch::Tensor;

crate::choice! {
    /// Source of the margin.
    pub enum MarginSource {
        Strength = "strength",
        Votes = "votes",
    }
}

crate::keys! {
    /// Keys of [method].
    pub struct DisagreementMargin {
        /// column of the rows that margins follow
        source: MarginSource = one_of::<MarginSource>().or_text("strength"),
        /// margin of unanimous votes; source = "votes"
        k: f64 = within(Range::POSITIVE).or("1.0"),
    }
}

/// Loss of each pair: differences of ratings `[B]`, share of the first picture `y` `[B]`, margins `[B]`.
pub fn losses(d: &Tensor, y: &Tensor, margins: &Tensor) -> Tensor {
    cross_entropy(&(d - margins), y)
}

/// Margin of a pair by the share of the votes for its winner.
pub fn of_votes(share: f64, k: f64) -> f64 {
    k * (2.0 * share - 1.0)
}

/// The towers alone, with margins in the loss.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Margins;

impl Head for Margins {
    fn outputs(&self, input: &Input) -> Tensor {
        similarity(input)
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        losses(&difference(outputs), &batch.share, &batch.margins)
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        difference_of(pairs).sigmoid()
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("disagreement_margin")]
    }
}
