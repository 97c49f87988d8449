//! Minimax of Vote'n'Rank (arXiv 2210.05769).

use crate::pairs::majority::Majority;

/// - max_j (weight of the measures that prefer j to i, if j beats i)
pub fn scores(majority: &Majority) -> Vec<f64> {
    let against =
        |i: usize| (0..majority.n()).filter(move |j| majority.beats(*j, i)).map(move |j| majority.weight(j, i));
    (0..majority.n()).map(|i| -against(i).fold(0.0, f64::max)).collect()
}
