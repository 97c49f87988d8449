//! Bradley-Terry with ties (Rao and Kupper 1967, as in the trainer of HPSv3), k = 5.
//!
//!     win  -log sigmoid(d - ln k)
//!     tie  -log sigmoid(d - ln k) - log sigmoid(-d - ln k) - ln(k^2 - 1)

use super::head::{Batch, Head, Input, Measured};
use super::pickscore::{difference, difference_of, similarity};
use super::shared::minus_log_sigmoid;
use crate::keys::{Range, within};
use serde::{Deserialize, Serialize};
use tch::Tensor;

crate::keys! {
    /// Keys of [method].
    pub struct Btt {
        /// the larger, the more ties are expected: at d = 0 their share is (k - 1) / (k + 1)
        k: f64 = within(Range { low: 1.0, high: f64::INFINITY, low_open: true, high_open: true }).or("5.0"),
    }
}

/// Loss of each pair: differences of ratings `[B]`, share of the first `y` `[B]`: 0.5 is a tie, more a win of the first.
pub fn losses(d: &Tensor, y: &Tensor, k: f64) -> Tensor {
    let (win, loss) = (minus_log_sigmoid(&(d - k.ln())), minus_log_sigmoid(&(-d - k.ln())));
    let tie = &win + &loss - (k * k - 1.0).ln();
    tie.where_self(&y.eq(0.5), &win.where_self(&y.gt(0.5), &loss))
}

/// The towers alone, with ties in the model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WithTies(pub Btt);

impl Head for WithTies {
    fn outputs(&self, input: &Input) -> Tensor {
        similarity(input)
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        losses(&difference(outputs), &batch.share, self.0.k)
    }

    /// The share of wins of the first picture among pairs that are no ties.
    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        let d = difference_of(pairs);
        let (first, second) = ((&d - self.0.k.ln()).sigmoid(), (-&d - self.0.k.ln()).sigmoid());
        &first / (&first + second)
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("btt")]
    }
}
