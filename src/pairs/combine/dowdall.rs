//! Dowdall of Vote'n'Rank (arXiv 2210.05769).

use super::ranks::summed;

/// sum_k w_k / rmin_k(i)
pub fn scores(numbers: &[Vec<f64>], weights: &[f64], n: usize) -> Vec<f64> {
    summed(numbers, weights, n, |ranks, i| 1.0 / ranks.min[i] as f64)
}
