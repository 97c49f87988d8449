//! Pairwise majorities of weighted measures or of votes.

use super::vote::Vote;

/// Weights of the measures or votes that prefer one candidate to another.
pub struct Majority {
    n: usize,
    /// `[n * n]`: row i, column j: weight of the measures that prefer i to j.
    weights: Vec<f64>,
}

impl Majority {
    /// `numbers`: `[measures][candidates]`; equal numbers prefer neither.
    pub fn of(numbers: &[Vec<f64>], weights: &[f64], n: usize) -> Self {
        let prefer = |i: usize, j: usize| {
            let votes = numbers.iter().zip(weights).filter(|(numbers, _)| numbers[i] > numbers[j]);
            votes.map(|(_, weight)| weight).sum::<f64>()
        };
        Self { n, weights: (0..n * n).map(|at| prefer(at / n, at % n)).collect() }
    }

    /// Every vote has weight 1; a tie is one half for either.
    pub fn of_votes(votes: &[Vote], n: usize) -> Self {
        let prefer = |i: usize, j: usize| votes.iter().map(|vote| vote.weight(i, j)).sum();
        Self { n, weights: (0..n * n).map(|at| prefer(at / n, at % n)).collect() }
    }

    pub fn n(&self) -> usize {
        self.n
    }

    /// Weight of the measures that prefer i to j.
    pub fn weight(&self, i: usize, j: usize) -> f64 {
        self.weights[i * self.n + j]
    }

    pub fn beats(&self, i: usize, j: usize) -> bool {
        self.weight(i, j) > self.weight(j, i)
    }

    /// Cyclic triples and all triples: i beats j, j beats k, k beats i.
    pub fn triples(&self) -> (usize, usize) {
        let (mut cyclic, mut all) = (0, 0);
        for i in 0..self.n {
            for j in i + 1..self.n {
                for k in j + 1..self.n {
                    all += 1;
                    let turn = |a, b, c| self.beats(a, b) && self.beats(b, c) && self.beats(c, a);
                    cyclic += usize::from(turn(i, j, k) || turn(i, k, j));
                }
            }
        }
        (cyclic, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_measures_that_turn_in_a_circle_are_one_cyclic_triple() {
        let circle = [vec![3.0, 2.0, 1.0], vec![1.0, 3.0, 2.0], vec![2.0, 1.0, 3.0]];
        let majority = Majority::of(&circle, &[1.0; 3], 3);
        assert!(majority.beats(0, 1) && majority.beats(1, 2) && majority.beats(2, 0));
        assert_eq!(majority.triples(), (1, 1));
        assert_eq!(Majority::of(&circle[..1], &[1.0], 3).triples(), (0, 1));
    }
}
