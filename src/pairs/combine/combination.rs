//! One number per candidate from several measures.

use super::robust::{Robust, Votes, robust};
use super::{borda, copeland, dowdall, log_sigmoid, mean, minimax, plurality, win_fraction};
use crate::pairs::majority::Majority;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// `--combine`: from measures to one number per candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Combination {
    /// Weighted mean of z-scores over all candidates
    #[default]
    Mean,
    /// Weighted sum of log sigma(r - median of the prompt), a logical and
    LogSigmoid,
    /// Share of won comparisons, phi of RankDPO
    WinFraction,
    /// Number of measures that rank it first alone
    Plurality,
    /// Sum of candidates ranked below
    Borda,
    /// Sum of 1 / rank
    Dowdall,
    /// Majorities won minus majorities lost
    Copeland,
    /// Minus the largest majority against it
    Minimax,
    /// Bradley-Terry scores without corrupted votes; 4 candidates or more
    Robust,
}

/// Numbers of a prompt's candidates, `[measures][candidates]`, and what is known of them.
pub struct Table<'a> {
    pub numbers: &'a [Vec<f64>],
    /// z-scores of the numbers over all prompts.
    pub standardised: &'a [Vec<f64>],
    /// One per measure.
    pub weights: &'a [f64],
    /// Candidates.
    pub n: usize,
}

/// Combined numbers, and comparisons that the rule calls corrupted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Combined {
    pub scores: Vec<f64>,
    pub corrupted: Vec<(usize, usize)>,
}

impl Combination {
    /// Combined numbers of a prompt's candidates; `None` where the rule needs more candidates.
    pub fn combined(self, table: &Table) -> Option<Combined> {
        let (numbers, weights, n) = (table.numbers, table.weights, table.n);
        let scores = match self {
            Self::Mean => mean::scores(table.standardised, weights, n),
            Self::LogSigmoid => log_sigmoid::scores(numbers, weights),
            Self::WinFraction => win_fraction::scores(numbers, n),
            Self::Plurality => plurality::scores(numbers, weights, n),
            Self::Borda => borda::scores(numbers, weights, n),
            Self::Dowdall => dowdall::scores(numbers, weights, n),
            Self::Copeland => copeland::scores(&Majority::of(numbers, weights, n)),
            Self::Minimax => minimax::scores(&Majority::of(numbers, weights, n)),
            Self::Robust => {
                let Robust { scores, corrupted } = robust(&Votes::of(numbers, weights, n))?;
                return Some(Combined { scores, corrupted });
            }
        };
        Some(Combined { scores, corrupted: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scorers x models of docs/methods.md 31.6: rows are models there.
    fn table() -> Vec<Vec<f64>> {
        vec![vec![0.71, 0.69, 0.75, 0.66], vec![0.62, 0.66, 0.60, 0.64], vec![0.55, 0.58, 0.50, 0.58]]
    }

    fn close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{got:?}, expected {expected:?}");
        }
    }

    #[test]
    fn every_rule_of_votes_gives_the_numbers_of_the_fixture() {
        let numbers = table();
        let of = |rule: Combination| {
            let table = Table { numbers: &numbers, standardised: &numbers, weights: &[1.0; 3], n: 4 };
            rule.combined(&table).unwrap().scores
        };
        close(&of(Combination::Mean), &[0.626667, 0.643333, 0.616667, 0.626667]);
        close(&of(Combination::Plurality), &[0.0, 1.0, 1.0, 0.0]);
        close(&of(Combination::Borda), &[4.0, 6.0, 3.0, 4.0]);
        close(&of(Combination::Dowdall), &[1.166667, 2.333333, 1.5, 1.75]);
        close(&of(Combination::Copeland), &[-1.0, 3.0, -3.0, 1.0]);
        close(&of(Combination::Minimax), &[-2.0, 0.0, -2.0, -2.0]);
    }

    #[test]
    fn win_fraction_and_log_sigmoid_are_those_of_their_own_fixtures() {
        let numbers = [vec![3.0, 2.0, 1.0], vec![2.0, 3.0, 1.0]];
        close(&win_fraction::scores(&numbers, 3), &[0.75, 0.75, 0.0]);
        let l3 = 3f64.ln();
        close(
            &log_sigmoid::scores(&[vec![-l3, 0.0, l3]], &[2.0]),
            &[2.0 * 0.25f64.ln(), 2.0 * 0.5f64.ln(), 2.0 * 0.75f64.ln()],
        );
    }
}
