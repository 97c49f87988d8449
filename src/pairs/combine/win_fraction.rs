//! phi of RankDPO (arXiv 2410.18013): the share of won comparisons.

use crate::data::ranking::win_fractions;

/// phi(i) = C_i / (m (n - 1)), C_i: wins over the other candidates, summed over m measures; an equal number is no win.
pub fn scores(numbers: &[Vec<f64>], n: usize) -> Vec<f64> {
    win_fractions(numbers.iter().map(Vec::as_slice), n)
}
