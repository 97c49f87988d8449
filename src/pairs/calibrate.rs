//! CHARM (arXiv 2504.10045): a scorer overrates some generators; offsets per generator undo it.

use tch::{Kind, Tensor};

/// T = TEMPERATURE std of the scores.
const TEMPERATURE: f64 = 0.1;
/// Scores per generator that the fit reads, evenly spaced in rank.
const MOST: usize = 500;
const ROUNDS: usize = 200;

/// P_ij = 1 / (1 + 10^((E_j - E_i) / 400)): the share of wins of i over j that Elo ratings predict.
pub fn expected(i: f64, j: f64) -> f64 {
    1.0 / (1.0 + 10f64.powf((j - i) / 400.0))
}

/// MD = (W - P) / max(P, 1 - P): how far the share of wins W is above that of the ratings, relative to the most.
pub fn mismatch(wins: f64, expected: f64) -> f64 {
    (wins - expected) / expected.max(1.0 - expected)
}

/// Offsets o with o of the last generator 0: min mean_{i != j} ( mean_{a, b} sigma((s_i[a] + o_i - s_j[b] - o_j) / T) - P_ij )^2,
/// by damped Gauss-Newton steps. `scores`: one list per generator; `temperature`: T.
pub fn offsets(scores: &[Vec<f64>], elo: &[f64], temperature: f64) -> Vec<f64> {
    let scores: Vec<Vec<f64>> = scores.iter().map(|scores| spaced(scores)).collect();
    let fit = Fit { scores: &scores, elo, temperature };
    let mut at = vec![0.0; scores.len()];
    let (mut error, mut damping) = (fit.error(&at), 1e-6);
    for _ in 0..ROUNDS {
        let Some(next) = fit.step(&at, damping) else { break };
        let found = fit.error(&next);
        if found < error {
            let gained = error - found;
            (at, error, damping) = (next, found, damping / 10.0);
            if gained < 1e-18 {
                break;
            }
        } else if damping > 1e12 {
            break;
        } else {
            damping *= 10.0;
        }
    }
    at
}

/// T of a scorer: a tenth of the standard deviation of its scores.
pub fn temperature(all: &[f64]) -> f64 {
    TEMPERATURE * crate::numbers::std(all).filter(|std| *std > 0.0).unwrap_or(1.0)
}

/// At most [`MOST`] of the scores, evenly spaced in rank.
fn spaced(scores: &[f64]) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n > MOST {
        true => (0..MOST).map(|i| sorted[(2 * i + 1) * n / (2 * MOST)]).collect(),
        false => sorted,
    }
}

struct Fit<'a> {
    scores: &'a [Vec<f64>],
    elo: &'a [f64],
    temperature: f64,
}

impl Fit<'_> {
    /// Mean win probability of i over j, and its derivative with respect to the difference of their offsets.
    fn share(&self, i: usize, j: usize, offset: f64) -> (f64, f64) {
        let (mut share, mut slope) = (0.0, 0.0);
        for a in &self.scores[i] {
            for b in &self.scores[j] {
                let p = 1.0 / (1.0 + (-(a - b + offset) / self.temperature).exp());
                share += p;
                slope += p * (1.0 - p) / self.temperature;
            }
        }
        let n = (self.scores[i].len() * self.scores[j].len()).max(1) as f64;
        (share / n, slope / n)
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let n = self.scores.len();
        (0..n).flat_map(move |i| (i + 1..n).map(move |j| (i, j)))
    }

    /// P_ij + P_ji = 1 on both sides, so half of the pairs are enough.
    fn error(&self, at: &[f64]) -> f64 {
        let square = |(i, j): (usize, usize)| {
            let (share, _) = self.share(i, j, at[i] - at[j]);
            (share - expected(self.elo[i], self.elo[j])).powi(2)
        };
        self.pairs().map(square).sum()
    }

    /// A Levenberg-Marquardt step; `None`: the equations cannot be solved.
    fn step(&self, at: &[f64], damping: f64) -> Option<Vec<f64>> {
        let n = at.len().checked_sub(1).filter(|n| *n > 0)?;
        let (mut matrix, mut right) = (vec![0.0; n * n], vec![0.0; n]);
        for (i, j) in self.pairs() {
            let (share, slope) = self.share(i, j, at[i] - at[j]);
            let residual = share - expected(self.elo[i], self.elo[j]);
            // Derivatives: slope at i, -slope at j; that of the last offset is not free.
            let entries = [(i, slope), (j, -slope)];
            for (row, left) in entries.into_iter().filter(|(row, _)| *row < n) {
                right[row] -= left * residual;
                for (column, top) in entries.into_iter().filter(|(column, _)| *column < n) {
                    matrix[row * n + column] += left * top;
                }
            }
        }
        let scale = (0..n).map(|i| matrix[i * n + i]).fold(f64::MIN_POSITIVE, f64::max);
        (0..n).for_each(|i| matrix[i * n + i] += damping * scale);
        let size = n as i64;
        let matrix = Tensor::from_slice(&matrix).view([size, size]);
        let solved = Tensor::f_linalg_solve(&matrix, &Tensor::from_slice(&right).view([size, 1]), true).ok()?;
        let steps = Vec::<f64>::try_from(&solved.to_kind(Kind::Double).view([-1])).ok()?;
        let next: Vec<f64> = at.iter().zip(steps.into_iter().chain([0.0])).map(|(at, step)| at + step).collect();
        next.iter().all(|offset| offset.is_finite()).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_mismatch_are_those_of_the_fixture() {
        // docs/methods.md 31.6
        let scores = [vec![0.9, 0.7, 0.8, 0.6], vec![0.5, 0.65, 0.6, 0.55]];
        let target = expected(1000.0, 1050.0);
        assert!((target - 0.428537).abs() < 1e-6, "{target}");
        assert!((mismatch(1.0, target) - 1.0).abs() < 1e-12);
        let offsets = offsets(&scores, &[1000.0, 1050.0], 0.1);
        assert!((offsets[0] + 0.213656).abs() < 1e-6 && offsets[1] == 0.0, "{offsets:?}");
        let wins = scores[0].iter().zip(&scores[1]).filter(|(a, b)| *a + offsets[0] > **b).count();
        assert_eq!(wins, 1);
    }

    #[test]
    fn three_generators_meet_ratings_that_scores_can_meet() {
        // Shifted copies: offsets undo the shifts where all ratings are equal.
        let base: Vec<f64> = (0..40).map(|i| f64::from(i % 7) * 0.1).collect();
        let shifted = |by: f64| base.iter().map(|x| x + by).collect::<Vec<f64>>();
        let offsets = offsets(&[shifted(0.3), shifted(-0.1), base.clone()], &[900.0; 3], 0.05);
        for (got, expected) in offsets.iter().zip([-0.3, 0.1, 0.0]) {
            assert!((got - expected).abs() < 1e-4, "{offsets:?}");
        }
    }
}
