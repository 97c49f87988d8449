//! Statistics of plain numbers.

use std::borrow::Borrow;

/// `None` for no values.
pub fn mean<T: Borrow<f64>>(values: impl IntoIterator<Item = T>) -> Option<f64> {
    let mut count = 0usize;
    let sum: f64 = values.into_iter().inspect(|_| count += 1).map(|x| *x.borrow()).sum();
    (count > 0).then(|| sum / count as f64)
}

/// Standard deviation over n, not n - 1; `None` for an empty list.
pub fn std(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    Some(mean(values.iter().map(|x| (x - centre).powi(2)))?.sqrt())
}

/// Median, for an even count the mean of the middle two; `None` for an empty list.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (0, 0) => None,
        (middle, 1) => Some(sorted[middle]),
        (middle, _) => Some(0.5 * (sorted[middle - 1] + sorted[middle])),
    }
}

/// 95 % interval over prompts, of the mean of each: their mean +- 1.96 std (n - 1) / sqrt(prompts); `None` with one
/// prompt.
pub fn interval(means: &[f64]) -> Option<(f64, f64)> {
    let n = means.len() as f64;
    if means.len() < 2 {
        return None;
    }
    let centre = mean(means)?;
    let variance = means.iter().map(|m| (m - centre).powi(2)).sum::<f64>() / (n - 1.0);
    let half = 1.96 * (variance / n).sqrt();
    Some((centre - half, centre + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_over_n() {
        assert_eq!(std(&[1.0, 3.0]), Some(1.0));
        assert_eq!(std(&[]), None);
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        assert_eq!((median(&[]), median(&[3.0]), median(&[4.0, 1.0, 2.0, 9.0])), (None, Some(3.0), Some(3.0)));
    }
}
