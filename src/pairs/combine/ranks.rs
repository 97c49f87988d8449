//! Ranks of candidates by one measure; 1 is the best.

/// Ranks of one measure.
pub struct Ranks {
    /// Ties at their best place.
    pub min: Vec<usize>,
    /// Ties at their worst place.
    pub max: Vec<usize>,
}

impl Ranks {
    pub fn of(numbers: &[f64]) -> Self {
        let count = |f: &dyn Fn(f64) -> bool| numbers.iter().filter(|other| f(**other)).count();
        Self {
            min: numbers.iter().map(|x| 1 + count(&|other| other > *x)).collect(),
            max: numbers.iter().map(|x| count(&|other| other >= *x)).collect(),
        }
    }
}

/// sum_k w_k f(ranks_k, i) of every candidate.
pub fn summed(numbers: &[Vec<f64>], weights: &[f64], n: usize, f: impl Fn(&Ranks, usize) -> f64) -> Vec<f64> {
    let ranks: Vec<Ranks> = numbers.iter().map(|numbers| Ranks::of(numbers)).collect();
    (0..n).map(|i| ranks.iter().zip(weights).map(|(ranks, w)| w * f(ranks, i)).sum()).collect()
}
