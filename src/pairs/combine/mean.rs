//! Weighted mean of z-scores.

use crate::numbers::{mean, std};

/// sum_k w_k z_k(i) / sum_k w_k
pub fn scores(standardised: &[Vec<f64>], weights: &[f64], n: usize) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let of = |i: usize| standardised.iter().zip(weights).map(|(z, w)| w * z[i]).sum::<f64>() / total;
    (0..n).map(of).collect()
}

/// (x - mean) / std over all candidates of all prompts; 0 for a measure that is constant.
pub fn standardised(all: &[f64]) -> impl Fn(f64) -> f64 + use<> {
    let centre = mean(all).unwrap_or_default();
    let spread = std(all).filter(|spread| *spread > 1e-12 * centre.abs().max(f64::MIN_POSITIVE));
    move |x| spread.map_or(0.0, |spread| (x - centre) / spread)
}
