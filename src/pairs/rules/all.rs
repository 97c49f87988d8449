//! Every two candidates.

/// (winner, loser) of every two; the order of the file decides between equal numbers.
pub fn chosen(scores: &[f64]) -> Vec<(usize, usize)> {
    let pairs = (0..scores.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
    pairs.map(|(i, j)| if scores[j] > scores[i] { (j, i) } else { (i, j) }).collect()
}
