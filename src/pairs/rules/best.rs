//! The best candidate.

/// The first candidate with the highest number.
pub fn best(scores: &[f64]) -> Option<usize> {
    (0..scores.len()).reduce(|best, i| if scores[i] > scores[best] { i } else { best })
}
