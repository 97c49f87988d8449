//! Columns of numbers by quantile, differentiable with respect to the numbers.

use super::groups::index;
use tch::Tensor;

/// `[n]` values in ascending order, and the index `[n]` of each; equal values keep their order.
pub fn ascending(values: &Tensor) -> (Tensor, Tensor) {
    values.sort_stable(true, 0, false)
}

/// Quantile function of an ascending column `[m]` at (i - 1/2) / n for i = 1..n, `[n]`: linear between the column's
/// own values, which lie at (j - 1/2) / m, and constant beyond them. The column itself for n = m.
pub fn at_middles(sorted: &Tensor, n: i64) -> Tensor {
    let m = sorted.size()[0];
    let places: Vec<f64> =
        (0..n).map(|i| ((i as f64 + 0.5) * m as f64 / n as f64 - 0.5).clamp(0.0, (m - 1) as f64)).collect();
    let below: Vec<i64> = places.iter().map(|place| place.floor() as i64).collect();
    let above: Vec<i64> = below.iter().map(|low| (low + 1).min(m - 1)).collect();
    let shares: Vec<f64> = places.iter().map(|place| place.fract()).collect();
    let share = Tensor::from_slice(&shares).to_device(sorted.device()).to_kind(sorted.kind());
    let at = |places: &[i64]| sorted.index_select(0, &index(places, sorted));
    at(&below) * (1.0 - &share) + at(&above) * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objectives::numbers;

    #[test]
    fn a_shorter_column_is_read_between_its_values_and_held_beyond_them() {
        let column = Tensor::from_slice(&[1.0, 3.0]);
        assert_eq!(numbers(&at_middles(&column, 2)), [1.0, 3.0]);
        // Levels 1/8, 3/8, 5/8, 7/8 in a column with values at 1/4 and 3/4.
        assert_eq!(numbers(&at_middles(&column, 4)), [1.0, 1.5, 2.5, 3.0]);
        assert_eq!(numbers(&at_middles(&Tensor::from_slice(&[7.0]), 3)), [7.0, 7.0, 7.0]);
    }
}
