//! HPSv2 (arXiv 2306.09341; `src/open_clip/loss.py` and `src/training/train.py` of the authors' code).
//!
//!     L = sum_i ( lse(a_0, a_1) - a_0 )    hard labels, summed over the step; logit_scale is clamped to [0, ln 100]
//!
//! Soft labels are an extension: KL(y || softmax(a)), so that a perfect prediction costs 0.

use super::head::{Batch, Head, Input, Measured};
use super::pickscore::{difference, difference_of, similarity};
use super::shared::{cross_entropy, entropy};
use serde::{Deserialize, Serialize};
use tch::Tensor;

crate::choice! {
    /// `[method] labels`
    pub enum HpsLabels {
        Hard = "hard",
        Soft = "soft",
    }
}

crate::keys! {
    /// Keys of [method].
    pub struct Hpsv2 {
        /// hard: the winner alone; soft: shares of `votes`, ties are 0.5
        labels: HpsLabels = crate::keys::one_of::<HpsLabels>().or_text("hard"),
    }
}

/// KL(y || softmax(a)) of each pair: differences of logits `[B]`, share of the first picture `y` `[B]`.
pub fn losses(d: &Tensor, y: &Tensor) -> Tensor {
    cross_entropy(d, y) - entropy(y)
}

/// The towers alone, with the loss of HPSv2.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ranked(pub Hpsv2);

impl Head for Ranked {
    fn outputs(&self, input: &Input) -> Tensor {
        similarity(input)
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        let share = match self.0.labels {
            HpsLabels::Hard => batch.share.ge(0.5).to_kind(batch.share.kind()),
            HpsLabels::Soft => batch.share.shallow_clone(),
        };
        losses(&difference(outputs), &share)
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        difference_of(pairs).sigmoid()
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("hpsv2")]
    }
}
