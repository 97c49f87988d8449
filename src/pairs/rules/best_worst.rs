//! The best against the worst.

use super::best::best;

/// (argmax, argmin); `None` for fewer than two candidates.
pub fn chosen(scores: &[f64]) -> Option<(usize, usize)> {
    let winner = best(scores)?;
    let others = (0..scores.len()).filter(|i| *i != winner);
    let loser = others.reduce(|worst, i| if scores[i] < scores[worst] { i } else { worst })?;
    Some((winner, loser))
}
