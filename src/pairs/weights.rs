//! Weights of pairs by their margin (OPTune, arXiv 2406.07657).

use crate::numbers::mean;

/// w = sigma(k margin) over its mean, one per margin.
pub fn weights(margins: &[f64], k: f64) -> Vec<f64> {
    let raw: Vec<f64> = margins.iter().map(|margin| 1.0 / (1.0 + (-k * margin).exp())).collect();
    let mean = mean(&raw).unwrap_or(1.0);
    raw.into_iter().map(|weight| weight / mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_fixture() {
        // docs/methods.md 31.4
        let found = weights(&[0.1, 0.4, 1.0], 1.0);
        for (found, expected) in found.iter().zip([0.849149, 0.968371, 1.182480]) {
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
        assert!((found.iter().sum::<f64>() - 3.0).abs() < 1e-12);
        assert!(weights(&[], 1.0).is_empty());
    }
}
