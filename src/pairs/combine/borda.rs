//! Borda of Vote'n'Rank (arXiv 2210.05769).

use super::ranks::summed;

/// sum_k w_k (n - rmax_k(i))
pub fn scores(numbers: &[Vec<f64>], weights: &[f64], n: usize) -> Vec<f64> {
    summed(numbers, weights, n, |ranks, i| (n - ranks.max[i]) as f64)
}
