//! Plurality of Vote'n'Rank (arXiv 2210.05769).

use super::ranks::summed;

/// sum_k w_k [rmax_k(i) = 1]
pub fn scores(numbers: &[Vec<f64>], weights: &[f64], n: usize) -> Vec<f64> {
    summed(numbers, weights, n, |ranks, i| f64::from(ranks.max[i] == 1))
}
