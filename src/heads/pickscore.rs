//! PickScore (arXiv 2305.01569; `trainer/criterions/clip_criterion.py` of the authors' code).
//!
//!     a_k = s f_k . f_c;   l = sum_k y_k (lse(a_0, a_1) - a_k) + ln(1/2) [tie];   y in {(1, 0), (0, 1), (1/2, 1/2)}
//!     L = sum_i v_i l_i,   v_i = (1/n_i) / sum_j (1/n_j),   n: pairs of the prompt

use super::head::{Batch, Head, Input, Measured};
use super::shared::{both, cross_entropy, entropy};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

crate::keys! {
    /// Keys of [method].
    pub struct Pickscore {
        /// weights of prompts are divided by their sum over the step, as in the published code, and not by their mean
        /// over the training set
        as_published: bool = crate::keys::switch().or("false"),
    }
}

/// Loss of each pair: differences of logits `[B]`, share of the first picture `y` `[B]`. A perfect tie costs 0.
pub fn losses(d: &Tensor, y: &Tensor) -> Tensor {
    let tie = y.eq(0.5).to_kind(y.kind());
    cross_entropy(d, y) - entropy(y) * tie
}

/// v of the pairs of one step by the number of pairs of their prompts; they sum to 1.
pub fn prompt_weights(pairs_of_prompt: &[f64]) -> Vec<f64> {
    let sum: f64 = pairs_of_prompt.iter().map(|n| 1.0 / n).sum();
    pairs_of_prompt.iter().map(|n| 1.0 / n / sum).collect()
}

/// `[N, 1]`: s f . f_c of every picture with its prompt.
pub fn similarity(input: &Input) -> Tensor {
    let prompts = input.prompts.select(1, 0);
    (input.images * prompts).sum_dim_intlist([-1].as_slice(), true, None::<Kind>) * input.scale
}

/// The towers alone: no weights of its own.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Choice;

impl Head for Choice {
    fn outputs(&self, input: &Input) -> Tensor {
        similarity(input)
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        losses(&difference(outputs), &batch.share)
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        difference_of(pairs).sigmoid()
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("pickscore")]
    }
}

/// Differences `[B]` of the first column of outputs `[2 B, C]`, winner and loser in turn.
pub fn difference(outputs: &Tensor) -> Tensor {
    difference_of(&outputs.view([-1, 2, outputs.size()[1]]))
}

/// Differences `[B]` of the first column of pairs `[B, 2, C]`.
pub fn difference_of(pairs: &Tensor) -> Tensor {
    let (first, second) = both(pairs);
    first.select(1, 0) - second.select(1, 0)
}
