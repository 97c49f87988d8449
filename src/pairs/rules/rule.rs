//! Which candidates of a prompt become pairs.

use super::{all, best_worst, mu_2sigma, worst_of_five};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// `--rule`: which candidates become pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Rule {
    /// The best and the worst
    #[default]
    BestWorst,
    /// The best and the one nearest to mean - 2 standard deviations
    #[value(name = "mu_2sigma")]
    #[serde(rename = "mu_2sigma")]
    Mu2Sigma,
    /// The best and the worst of five others, chosen by chance
    WorstOfFive,
    /// Every two
    All,
    /// Every two with the smallest margins, for annotation (annotate.jsonl)
    SmallMargins,
    /// A ranked list (lists.jsonl)
    List,
}

impl Rule {
    /// Name of the file that it makes.
    pub fn file(self) -> &'static str {
        match self {
            Self::BestWorst | Self::Mu2Sigma | Self::WorstOfFive | Self::All => "pairs.jsonl",
            Self::SmallMargins => "annotate.jsonl",
            Self::List => "lists.jsonl",
        }
    }

    /// (winner, loser) of a prompt's candidates by their combined numbers. Equal numbers are a tie, in the order of the file.
    pub fn chosen(self, prompt: &str, scores: &[f64]) -> Vec<(usize, usize)> {
        match self {
            Self::BestWorst => best_worst::chosen(scores).into_iter().collect(),
            Self::Mu2Sigma => mu_2sigma::chosen(scores).into_iter().collect(),
            Self::WorstOfFive => worst_of_five::chosen(prompt, scores).into_iter().collect(),
            Self::All | Self::SmallMargins => all::chosen(scores),
            Self::List => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_chooses_as_it_is_described() {
        let scores = [0.2, 0.9, -0.4, 0.1, -3.0];
        assert_eq!(Rule::BestWorst.chosen("p", &scores), [(1, 4)]);
        // mean -0.44, std 1.35: mean - 2 std = -3.13.
        assert_eq!(Rule::Mu2Sigma.chosen("p", &scores), [(1, 4)]);
        // Of many candidates it is not the minimum: mean 1.06, std 1.81, so -2.55.
        let many: Vec<f64> = (0..30).map(|i| f64::from(i) * 0.1).chain([-2.5, -7.0]).collect();
        assert_eq!(
            (Rule::BestWorst.chosen("p", &many), Rule::Mu2Sigma.chosen("p", &many)),
            (vec![(29, 31)], vec![(29, 30)])
        );
        assert_eq!(Rule::All.chosen("p", &[1.0, 2.0, 1.0]), [(1, 0), (0, 2), (1, 2)]);
        assert!(Rule::List.chosen("p", &scores).is_empty());
        for rule in [Rule::BestWorst, Rule::Mu2Sigma, Rule::WorstOfFive, Rule::All] {
            assert!(rule.chosen("p", &[1.0]).is_empty(), "{rule:?}");
        }
    }

    #[test]
    fn the_worst_of_five_depends_on_the_prompt_and_on_nothing_else() {
        let scores: Vec<f64> = (0..40).map(f64::from).collect();
        let losers: Vec<usize> = (0..200).map(|i| Rule::WorstOfFive.chosen(&i.to_string(), &scores)[0].1).collect();
        assert_eq!(losers[7], Rule::WorstOfFive.chosen("7", &scores)[0].1);
        // The lowest of 5 of 0..38 is 40 / 6 - 1 = 5.7 in the mean, with a standard deviation of about 5 / sqrt(200).
        let mean = losers.iter().sum::<usize>() as f64 / 200.0;
        assert!((mean - 5.7).abs() < 1.5, "{mean}");
        assert_eq!(Rule::WorstOfFive.chosen("p", &[0.3, 0.1, 0.2]), [(0, 1)]);
    }
}
