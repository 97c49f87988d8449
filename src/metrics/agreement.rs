//! Agreement of two columns of numbers.

use crate::numbers::mean;

/// Pearson's correlation; `None` where a column is constant or has fewer than two numbers.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let (mx, my) = (mean(x)?, mean(y)?);
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| f(x - mx, y - my)).sum::<f64>();
    let scale = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
    let r = sum(&|a, b| a * b) / scale;
    r.is_finite().then_some(r)
}

/// Kendall's tau-b, which counts ties (Kendall 1945), in O(n log n) by Knight's algorithm (1966); `None` where a column is
/// constant or has fewer than two numbers.
pub fn kendall_tau_b(x: &[f64], y: &[f64]) -> Option<f64> {
    let mut points: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let pairs = |n: usize| (n * n.saturating_sub(1) / 2) as f64;
    let all = pairs(points.len());
    let x_ties: f64 = points.chunk_by(|a, b| a.0 == b.0).map(|run| pairs(run.len())).sum();
    let both_ties: f64 = points.chunk_by(|a, b| a == b).map(|run| pairs(run.len())).sum();
    let mut sorted: Vec<f64> = points.iter().map(|point| point.1).collect();
    let swaps = inversions(&mut sorted);
    let y_ties: f64 = sorted.chunk_by(|a, b| a == b).map(|run| pairs(run.len())).sum();
    let tau = (all - x_ties - y_ties + both_ties - 2.0 * swaps) / ((all - x_ties) * (all - y_ties)).sqrt();
    tau.is_finite().then_some(tau)
}

/// Number of pairs in falling order; sorts the numbers.
fn inversions(numbers: &mut [f64]) -> f64 {
    let n = numbers.len();
    if n < 2 {
        return 0.0;
    }
    let (left, right) = numbers.split_at_mut(n / 2);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(n);
    let (mut i, mut j) = (0, 0);
    while i < left.len() || j < right.len() {
        if j == right.len() || (i < left.len() && left[i] <= right[j]) {
            merged.push(left[i]);
            i += 1;
        } else {
            count += (left.len() - i) as f64;
            merged.push(right[j]);
            j += 1;
        }
    }
    numbers.copy_from_slice(&merged);
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn both_are_those_of_scipy() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/agreement.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for case in golden.as_array().unwrap() {
            let numbers = |key: &str| serde_json::from_value::<Vec<f64>>(case[key].clone()).unwrap();
            let (x, y) = (numbers("x"), numbers("y"));
            for (got, key) in [(kendall_tau_b(&x, &y), "tau_b"), (pearson(&x, &y), "pearson")] {
                let expected = case[key].as_f64();
                assert_eq!(got.is_some(), expected.is_some(), "{key} of {x:?}, {y:?}");
                if let (Some(got), Some(expected)) = (got, expected) {
                    assert!((got - expected).abs() < 1e-12, "{key} of {x:?}, {y:?}: {got}, expected {expected}");
                }
            }
        }
    }
}
