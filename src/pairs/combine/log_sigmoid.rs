//! Log-sigmoid of calibrated rewards (arXiv 2402.00742): a logical and of the measures.

use crate::scorers::Shaping;

/// sum_k w_k log sigma( r_k(i) - median_k ), the median over the prompt's candidates.
pub fn scores(numbers: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    Shaping::LogSigmoid.rewards(weights, numbers)
}
