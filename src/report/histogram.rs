//! Histograms as columns of a page.

/// Columns of a histogram.
const BINS: usize = 24;

/// Heights of a histogram's columns over [min, max], in per cent of the highest.
pub fn histogram(numbers: &[f64], min: f64, max: f64) -> Vec<f64> {
    let mut counts = [0usize; BINS];
    for number in numbers {
        let share = if max > min { (number - min) / (max - min) } else { 0.5 };
        counts[((share * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    let highest = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    counts.map(|count| count as f64 / highest * 100.0).to_vec()
}
