//! Requirements on pairs.

use super::{pareto, vote};
use crate::pairs::reason::Reason;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// `--require`: requirement on pairs that are not ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Requirement {
    /// The winner is at least as good by every measure and better by one
    Pareto,
    /// More weight of measures prefers the winner than the loser
    Vote,
}

impl Requirement {
    /// Why a pair is dropped; `None`: it is kept. `numbers`: `[measures][candidates]`.
    pub fn refusal(self, numbers: &[Vec<f64>], weights: &[f64], (winner, loser): (usize, usize)) -> Option<Reason> {
        let pairs: Vec<(f64, f64)> = numbers.iter().map(|numbers| (numbers[winner], numbers[loser])).collect();
        match self {
            Self::Pareto => pareto::refusal(&pairs),
            Self::Vote => vote::refusal(&pairs, weights),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pareto_wants_no_measure_against_the_winner_and_vote_a_majority_for_it() {
        let numbers = [vec![2.0, 1.0], vec![3.0, 3.0], vec![1.0, 2.0]];
        let weights = [1.0; 3];
        assert_eq!(Requirement::Pareto.refusal(&numbers[..2], &weights, (0, 1)), None);
        assert_eq!(Requirement::Pareto.refusal(&numbers, &weights, (0, 1)), Some(Reason::NotPareto));
        assert_eq!(Requirement::Pareto.refusal(&numbers[1..2], &weights, (0, 1)), Some(Reason::NotPareto));
        assert_eq!(Requirement::Vote.refusal(&numbers, &weights, (0, 1)), Some(Reason::VoteTied));
        assert_eq!(Requirement::Vote.refusal(&numbers, &[2.0, 1.0, 1.0], (0, 1)), None);
        assert_eq!(Requirement::Vote.refusal(&numbers[2..], &weights, (0, 1)), Some(Reason::VoteAgainst));
    }
}
