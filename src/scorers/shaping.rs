//! From ratings of a group of pictures to their rewards (docs/scorers.md).

use crate::numbers::median;

crate::choice! {
    /// Shaping of ratings into rewards. r_k: rating of a picture by scorer k; w_k: weight of scorer k; median_k:
    /// median of r_k over the group, for an even number of pictures the mean of the middle two.
    pub enum Shaping {
        /// sum_k w_k r_k
        None = "none",
        /// (R - mean) / std of R = sum_k w_k r_k over the group; std over N, not N - 1; 0 where all R are equal.
        Standardise = "standardise",
        /// sum_k w_k log sigma(r_k - median_k) (docs/methods.md, section 17)
        LogSigmoid = "log_sigmoid",
        /// sum_k w_k sigma(r_k - median_k)
        Par = "par",
    }
}

impl Shaping {
    /// Rewards of a group, one per picture. `scored`: r_k, `[scorers][pictures]`; `weights`: w_k.
    pub fn rewards(self, weights: &[f64], scored: &[Vec<f64>]) -> Vec<f64> {
        match self {
            Shaping::None => mixed(weights, scored, |r, _| r),
            Shaping::Standardise => standardised(mixed(weights, scored, |r, _| r)),
            Shaping::LogSigmoid => mixed(weights, scored, |r, median| log_sigmoid(r - median)),
            Shaping::Par => mixed(weights, scored, |r, median| log_sigmoid(r - median).exp()),
        }
    }
}

/// sum_k w_k f(r_k, median_k) of every picture.
fn mixed(weights: &[f64], scored: &[Vec<f64>], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; scored.first().map_or(0, Vec::len)];
    for (weight, row) in weights.iter().zip(scored) {
        let median = median(row).unwrap_or(0.0);
        for (sum, r) in sums.iter_mut().zip(row) {
            *sum += weight * f(*r, median);
        }
    }
    sums
}

/// log(1 / (1 + exp(-x))), exact at both ends.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

fn standardised(values: Vec<f64>) -> Vec<f64> {
    // Not by std = 0: the mean of equal numbers may be off in the last bit, and the quotient of that is no reward.
    if values.windows(2).all(|two| two[0] == two[1]) {
        return vec![0.0; values.len()];
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    values.iter().map(|value| (value - mean) / std).collect()
}
