//! Agreement of two rankings of a prompt's candidates (CREAM, arXiv 2410.12735).

use super::super::combine::Ranks;
use super::super::rules::best_and_worst;
use crate::metrics::{kendall_tau_b, pearson};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// `--consistency`: agreement of two rankings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Consistency {
    /// (tau + 1) / 2 with Kendall's tau
    #[default]
    Kendall,
    /// (rho + 1) / 2 with Spearman's rank correlation
    Spearman,
    /// 1 if best and worst are the same, else 0
    BestAndWorst,
}

impl Consistency {
    /// c in [0, 1] of two rankings of at least two candidates. A ranking of equal numbers agrees with nothing: 0.5.
    pub fn of(self, one: &[f64], other: &[f64]) -> f64 {
        let correlation = match self {
            Self::Kendall => kendall_tau_b(one, other),
            Self::Spearman => pearson(&mean_ranks(one), &mean_ranks(other)),
            Self::BestAndWorst => return f64::from(best_and_worst(one) == best_and_worst(other)),
        };
        0.5 * (correlation.unwrap_or(0.0) + 1.0)
    }
}

/// Ranks from 1; ties share the mean of their places.
fn mean_ranks(numbers: &[f64]) -> Vec<f64> {
    let Ranks { min, max } = Ranks::of(numbers);
    min.iter().zip(max).map(|(min, max)| 0.5 * (*min + max) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/methods.md 31.5
    const ONE: [f64; 4] = [0.4, 0.1, 0.9, 0.3];
    const OTHER: [f64; 4] = [0.2, 0.3, 0.8, 0.1];

    #[test]
    fn kendalls_agreement_is_that_of_the_fixture() {
        assert!((Consistency::Kendall.of(&ONE, &OTHER) - 0.666667).abs() < 1e-6);
    }

    #[test]
    fn spearmans_is_that_of_the_squared_differences_of_ranks() {
        // Ranks 2 4 1 3 and 3 2 1 4: 1 - 6 (1 + 4 + 0 + 1) / (4 15) = 0.4
        assert!((Consistency::Spearman.of(&ONE, &OTHER) - 0.7).abs() < 1e-12);
        // Ranks 1 2.5 2.5 4 and 1 2 3 4: Pearson's correlation sqrt(0.9)
        let tied = Consistency::Spearman.of(&[4.0, 2.0, 2.0, 1.0], &[4.0, 3.0, 2.0, 1.0]);
        assert!((tied - 0.5 * (1.0 + 0.9f64.sqrt())).abs() < 1e-12, "{tied}");
    }

    #[test]
    fn best_and_worst_agree_wholly_or_not_at_all() {
        assert_eq!(Consistency::BestAndWorst.of(&ONE, &OTHER), 0.0);
        assert_eq!(Consistency::BestAndWorst.of(&ONE, &[0.3, 0.0, 0.8, 0.7]), 1.0);
    }

    #[test]
    fn turned_rankings_disagree_and_equal_numbers_say_nothing() {
        let turned = ONE.map(|x| -x);
        for measure in [Consistency::Kendall, Consistency::Spearman] {
            assert_eq!((measure.of(&ONE, &ONE), measure.of(&ONE, &turned)), (1.0, 0.0));
            assert_eq!(measure.of(&ONE, &[0.0; 4]), 0.5);
        }
    }
}
