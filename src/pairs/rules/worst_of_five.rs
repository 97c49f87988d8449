//! The practical rule of "Finding the Sweet Spot" (arXiv 2502.16825): the best against the worst of a random five.

use super::best::best;
use crate::data::draws::key;

const FIVE: usize = 5;

/// (argmax, argmin of five others). The five are those with the smallest key(0, "pairs", prompt, i) of docs/determinism.md;
/// `None` for fewer than two candidates.
pub fn chosen(prompt: &str, scores: &[f64]) -> Option<(usize, usize)> {
    let winner = best(scores)?;
    let mut others: Vec<usize> = (0..scores.len()).filter(|i| *i != winner).collect();
    others.sort_by_cached_key(|i| key(0, "pairs", &[&prompt, i]));
    others.truncate(FIVE);
    others.sort_unstable();
    let loser = others.into_iter().reduce(|worst, i| if scores[i] < scores[worst] { i } else { worst })?;
    Some((winner, loser))
}
