//! "Finding the Sweet Spot" (arXiv 2502.16825): the loser is a typical bad candidate, not the extreme one.

use super::best::best;
use crate::numbers::{mean, std};

/// (argmax, argmin |s - (mu - 2 sigma)|) with mean and standard deviation (over n) of the prompt's candidates; `None` for
/// fewer than two candidates.
pub fn chosen(scores: &[f64]) -> Option<(usize, usize)> {
    let target = mean(scores)? - 2.0 * std(scores)?;
    let winner = best(scores)?;
    let distance = |i: usize| (scores[i] - target).abs();
    let others = (0..scores.len()).filter(|i| *i != winner);
    let loser = others.reduce(|nearest, i| if distance(i) < distance(nearest) { i } else { nearest })?;
    Some((winner, loser))
}
