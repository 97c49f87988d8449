//! Ranking of noisy comparisons, after CURATRON (arXiv 2403.02745): Bradley-Terry scores by least absolute residuals, and
//! the votes that do not fit them.

use crate::pairs::majority::Majority;
use tch::{Kind, Tensor};

/// Fewest candidates among which a corrupted vote can be told.
pub const FEWEST: usize = 4;
/// Rounds of reweighting, and the smallest residual in a weight.
const ROUNDS: usize = 200;
const SMALLEST: f64 = 1e-6;
/// Residual above which a vote is called corrupted (zeta).
const CORRUPTED: f64 = 0.5;

/// Log-odds of comparisons.
pub struct Votes {
    pub n: usize,
    /// (i, j, M_ij) with i < j: the smoothed log-odds that i is preferred to j. Unseen pairs are absent.
    pub seen: Vec<(usize, usize, f64)>,
}

impl Votes {
    /// M_ij = ln( (n_ij + 1/2) / (n_ji + 1/2) ), where every measure votes with its weight.
    pub fn of(numbers: &[Vec<f64>], weights: &[f64], n: usize) -> Self {
        Self::seen(&Majority::of(numbers, weights, n), |_, _| true)
    }

    /// Log-odds of votes of people: pairs that nobody voted on are absent.
    pub fn of_people(majority: &Majority) -> Self {
        Self::seen(majority, |i, j| majority.weight(i, j) + majority.weight(j, i) > 0.0)
    }

    fn seen(majority: &Majority, is_seen: impl Fn(usize, usize) -> bool) -> Self {
        let n = majority.n();
        let odds = |i: usize, j: usize| smoothed(majority.weight(i, j), majority.weight(j, i));
        let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
        Self { n, seen: pairs.filter(|(i, j)| is_seen(*i, *j)).map(|(i, j)| (i, j, odds(i, j))).collect() }
    }

    /// Whether comparisons lead from every candidate to every other.
    pub fn connected(&self) -> bool {
        let mut reached = vec![false; self.n];
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut reached[at], true) {
                let next = self.seen.iter().filter(|(i, j, _)| *i == at || *j == at);
                open.extend(next.map(|(i, j, _)| i + j - at));
            }
        }
        reached.into_iter().all(|reached| reached)
    }
}

fn smoothed(wins: f64, losses: f64) -> f64 {
    ((wins + 0.5) / (losses + 0.5)).ln()
}

/// Scores with sum 0, and corrupted comparisons.
#[derive(Debug, PartialEq)]
pub struct Robust {
    pub scores: Vec<f64>,
    pub corrupted: Vec<(usize, usize)>,
}

/// w = argmin sum over seen pairs |M_ij - (w_i - w_j)|, sum w = 0, by iteratively reweighted least squares; `None` for fewer
/// than four candidates, or where comparisons do not connect them.
pub fn robust(votes: &Votes) -> Option<Robust> {
    if votes.n < FEWEST || !votes.connected() {
        return None;
    }
    let mut scores = least_squares(votes, &vec![1.0; votes.seen.len()])?;
    let residuals = |scores: &[f64]| -> Vec<f64> {
        votes.seen.iter().map(|(i, j, odds)| (odds - (scores[*i] - scores[*j])).abs()).collect()
    };
    for _ in 0..ROUNDS {
        let weights: Vec<f64> = residuals(&scores).iter().map(|residual| 1.0 / residual.max(SMALLEST)).collect();
        scores = least_squares(votes, &weights)?;
    }
    let far = residuals(&scores).into_iter().zip(&votes.seen).filter(|(residual, _)| *residual > CORRUPTED);
    Some(Robust { corrupted: far.map(|(_, (i, j, _))| (*i, *j)).collect(), scores })
}

/// The normal equations (a weighted graph Laplacian), with the row sum w = 0 added to every row.
fn least_squares(votes: &Votes, weights: &[f64]) -> Option<Vec<f64>> {
    let n = votes.n;
    let scale = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let (mut matrix, mut right) = (vec![1.0; n * n], vec![0.0; n]);
    for ((i, j, odds), weight) in votes.seen.iter().zip(weights) {
        let weight = weight / scale;
        matrix[i * n + i] += weight;
        matrix[j * n + j] += weight;
        matrix[i * n + j] -= weight;
        matrix[j * n + i] -= weight;
        right[*i] += weight * odds;
        right[*j] -= weight * odds;
    }
    let size = n as i64;
    let matrix = Tensor::from_slice(&matrix).view([size, size]);
    let right = Tensor::from_slice(&right).view([size, 1]);
    let solved = Tensor::f_linalg_solve(&matrix, &right, true).ok()?.to_kind(Kind::Double).view([-1]);
    let scores = Vec::<f64>::try_from(&solved).ok()?;
    scores.iter().all(|score| score.is_finite()).then_some(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: [f64; 8] = [1.2, 0.8, 0.4, 0.1, -0.2, -0.5, -0.8, -1.0];

    /// docs/methods.md 31.6: exact log-odds, two corrupted, two unseen.
    fn votes() -> Votes {
        let odds = |i: usize, j: usize| match (i, j) {
            (0, 7) => Some(-3.0),
            (2, 5) => Some(-2.0),
            (1, 6) | (3, 4) => None,
            _ => Some(TRUTH[i] - TRUTH[j]),
        };
        let pairs = (0..8).flat_map(|i| (i + 1..8).map(move |j| (i, j)));
        Votes { n: 8, seen: pairs.filter_map(|(i, j)| Some((i, j, odds(i, j)?))).collect() }
    }

    fn close(got: &[f64], expected: &[f64], tolerance: f64) {
        for (a, b) in got.iter().zip(expected) {
            assert!((a - b).abs() < tolerance, "{got:?}, expected {expected:?}");
        }
    }

    #[test]
    fn corrupted_votes_are_found_and_the_others_give_the_truth_back() {
        let votes = votes();
        let squares = least_squares(&votes, &vec![1.0; votes.seen.len()]).unwrap();
        close(&squares, &[0.55, 0.8, 0.0375, 0.1, -0.2, -0.1375, -0.8, -0.35], 1e-9);
        let robust = robust(&votes).unwrap();
        close(&robust.scores, &TRUTH, 1e-4);
        assert_eq!(robust.corrupted, [(0, 7), (2, 5)]);
    }

    #[test]
    fn odds_are_smoothed_and_three_candidates_are_too_few() {
        close(&[smoothed(3.0, 0.0), smoothed(2.0, 1.0), smoothed(0.0, 3.0)], &[1.945910, 0.510826, -1.945910], 1e-6);
        let numbers = [vec![1.0, 2.0, 3.0]];
        assert_eq!(robust(&Votes::of(&numbers, &[1.0], 3)), None);
        let unconnected = Votes { n: 4, seen: vec![(0, 1, 1.0), (2, 3, 1.0)] };
        assert_eq!(robust(&unconnected), None);
    }
}
