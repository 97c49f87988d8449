//! RankList (arXiv 2508.09826, from the abstract: no code was found). Ratings s of a list, best first:
//!
//!     l_k = log(1 + sum_i exp(-(s_i - s_{i+k})));   L = sum_{k=1..K} l_k
//!
//! K grows from 1 to n - 1 over the first half of training. That growth and the weights 1 are ours. Equal ranks give no
//! term.

use super::head::{Batch, Head, Input, Measured};
use super::pickscore::{difference_of, similarity};
use crate::data::items::ItemKind;
use tch::{Kind, Tensor};

crate::keys! {
    /// Keys of [method].
    pub struct Ranklist {
        /// share of the training over which the distance of compared places grows to the whole list; 0: at once
        exposure: f64 = crate::keys::within(crate::keys::Range::UNIT).or("0.5"),
    }
}

/// The largest distance K of compared places of a list of `n` at `progress` in [0, 1] of the training.
pub fn exposed(n: usize, progress: f64, exposure: f64) -> usize {
    let whole = n.saturating_sub(1).max(1);
    if progress >= exposure {
        return whole;
    }
    1 + ((whole - 1) as f64 * progress / exposure) as usize
}

/// Terms l_1 .. l_K `[K]` of one list: ratings `[n]` and places in any order, the
/// lowest the best.
pub fn terms(ratings: &Tensor, places: &[f64], most: usize) -> Vec<Tensor> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
    let index: Vec<i64> = order.iter().map(|place| *place as i64).collect();
    let sorted = ratings.index_select(0, &Tensor::from_slice(&index).to_device(ratings.device()));
    let places: Vec<f64> = order.iter().map(|place| places[*place]).collect();
    (1..=most).map(|k| term(&sorted, &places, k)).collect()
}

/// l_k of ratings sorted best first.
fn term(sorted: &Tensor, places: &[f64], k: usize) -> Tensor {
    let n = places.len();
    let ahead: Vec<i64> = (0..n.saturating_sub(k)).filter(|i| places[*i] < places[i + k]).map(|i| i as i64).collect();
    if ahead.is_empty() {
        return sorted.sum(sorted.kind()) * 0.0;
    }
    let at = |offset: i64| {
        let index: Vec<i64> = ahead.iter().map(|i| i + offset).collect();
        sorted.index_select(0, &Tensor::from_slice(&index).to_device(sorted.device()))
    };
    let behind = at(k as i64) - at(0); // -(s_i - s_{i+k})
    Tensor::cat(&[behind.zeros_like().narrow(0, 0, 1), behind], 0).logsumexp([0].as_slice(), false)
}

/// The towers alone, over lists.
#[derive(Debug, Clone)]
pub struct Listwise(pub Ranklist);

impl Head for Listwise {
    fn items(&self) -> ItemKind {
        ItemKind::Lists
    }

    fn outputs(&self, input: &Input) -> Tensor {
        similarity(input)
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        let of_list = |list: &super::head::Ranking| {
            let ratings = outputs.select(1, 0).narrow(0, list.start, list.places.len() as i64);
            let most = exposed(list.places.len(), batch.progress, self.0.exposure);
            Tensor::stack(&terms(&ratings, &list.places, most), 0).sum(None::<Kind>)
        };
        Tensor::stack(&batch.lists.iter().map(of_list).collect::<Vec<_>>(), 0)
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        difference_of(pairs).sigmoid()
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("ranklist")]
    }
}
