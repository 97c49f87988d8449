//! Copeland of Vote'n'Rank (arXiv 2210.05769), the difference form.

use crate::pairs::majority::Majority;

/// #j that i beats - #j that beat i
pub fn scores(majority: &Majority) -> Vec<f64> {
    let count = |f: &dyn Fn(usize) -> bool| (0..majority.n()).filter(|j| f(*j)).count() as f64;
    (0..majority.n()).map(|i| count(&|j| majority.beats(i, j)) - count(&|j| majority.beats(j, i))).collect()
}
