//! Win rates of the pictures of a prompt against each other (Pref-GRPO, arXiv 2508.20751; docs/scorers.md).
//!
//! ```text
//! W_i = mean over j != i of w(i, j),   w = 1 where the judge prefers i, 0 where it prefers j, 1/2 for a tie
//! ```
//!
//! Unlike a score, a win rate has the same scale for every prompt.

use super::measure::Better;
use super::named::Named;
use super::spec::Rated;
use anyhow::{Context, Result, ensure};
use image::RgbImage;
use serde::{Deserialize, Serialize};

crate::choice! {
    /// Source of a judge's preferences.
    pub enum Answers {
        /// Its ratings of single pictures.
        Score = "score",
        /// Its comparisons of two pictures.
        Compare = "compare",
    }
}

/// A judge of pairs of pictures of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pairwise {
    #[serde(flatten)]
    pub rated: Rated,
    pub weight: f64,
    pub answers: Answers,
    /// 1: a pair is shown once; 2: in both orders, and the mean counts. For comparisons.
    pub orders: u64,
    /// Two pictures tie where their ratings differ by at most this, or a probability differs from 1/2 by at most this.
    pub tie_zone: f64,
    /// k of w = sigma(k (s_i - s_j)), in place of 1, 1/2 and 0. For ratings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharpness: Option<f64>,
}

impl Pairwise {
    /// Preference w of each picture over each other one, from their ratings.
    fn of_scores(&self, better: Better, scores: &[f64]) -> Vec<f64> {
        let sign = if better == Better::Lower { -1.0 } else { 1.0 };
        win_rates(scores.len(), |i, j| {
            let gap = sign * (scores[i] - scores[j]);
            match self.sharpness {
                Some(k) => 1.0 / (1.0 + (-k * gap).exp()),
                None => decided(gap, self.tie_zone),
            }
        })
    }
}

/// 1, 0, or 1/2 within the tie zone.
fn decided(gap: f64, tie_zone: f64) -> f64 {
    if gap.abs() <= tie_zone { 0.5 } else { f64::from(u8::from(gap > 0.0)) }
}

/// Mean of `w(i, j)` over the other pictures; 1/2 for the only one.
fn win_rates(n: usize, w: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let rate = |i: usize| {
        let all: f64 = (0..n).filter(|j| *j != i).map(|j| w(i, j)).sum();
        if n > 1 { all / (n - 1) as f64 } else { 0.5 }
    };
    (0..n).map(rate).collect()
}

/// An opened judge.
pub struct PairJudge {
    pub config: Pairwise,
    pub named: Named,
}

impl PairJudge {
    /// Ratings of pictures, if the judge rates them one by one.
    ///
    /// # Errors
    /// Those of [`Named::rate`].
    pub fn rate(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Vec<f64>> {
        match self.config.answers {
            Answers::Score => self.named.rate_one(pictures, t, prompts),
            Answers::Compare => Ok(Vec::new()),
        }
    }

    /// Win rates of a prompt's pictures by their ratings.
    pub fn by_scores(&self, scores: &[f64]) -> Vec<f64> {
        self.config.of_scores(self.named.better(), scores)
    }

    /// Win rates of a prompt's pictures by comparisons, `batch` at a time.
    ///
    /// # Errors
    /// A scorer that only rates; probabilities outside [0, 1]; errors of the scorer.
    pub fn by_comparisons(&self, pictures: &[RgbImage], prompt: &str, batch: usize) -> Result<Vec<f64>> {
        let n = pictures.len();
        let pairs: Vec<(usize, usize)> = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).collect();
        let back = pairs.iter().map(|(i, j)| (*j, *i)).filter(|_| self.config.orders == 2);
        let asked: Vec<(usize, usize)> = pairs.iter().copied().chain(back).collect();
        let mut answers = Vec::new();
        for asked in asked.chunks(batch.max(1)) {
            let side = |of: fn(&(usize, usize)) -> usize| -> Vec<RgbImage> {
                asked.iter().map(|pair| pictures[of(pair)].clone()).collect()
            };
            let found = self.named.scorer.compare(&side(|p| p.0), &side(|p| p.1), &vec![prompt; asked.len()]);
            let found = found.with_context(|| format!("scorer \"{}\" cannot compare", self.named.name))?;
            ensure!(
                found.len() == asked.len() && found.iter().all(|p| (0.0..=1.0).contains(p)),
                "scorer \"{}\" compared {} pairs for the prompt {prompt:?} with {found:?}: expected as many probabilities in [0, 1]",
                self.named.name,
                asked.len()
            );
            answers.extend(found);
        }
        // w[i][j], the mean over both orders.
        let mut wins = vec![vec![0.0; n]; n];
        let share = 1.0 / self.config.orders as f64;
        for ((i, j), p) in asked.into_iter().zip(answers) {
            let w = decided(p - 0.5, self.config.tie_zone);
            wins[i][j] += share * w;
            wins[j][i] += share * (1.0 - w);
        }
        Ok(win_rates(n, |i, j| wins[i][j]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorers::measure::{Measure, Scope, Table};
    use crate::scorers::scorer::Scorer;
    use crate::scorers::spec::ScorerSpec;

    fn config(answers: Answers, orders: u64) -> Pairwise {
        let scorer = ScorerSpec { name: "x".into(), path: Default::default() };
        let rated = Rated { scorer, measure: None };
        Pairwise { rated, weight: 1.0, answers, orders, tie_zone: 0.0, sharpness: None }
    }

    /// Prefers by a table of winners; the first of two where it is `partial` to it.
    struct Fake {
        partial: bool,
    }

    const MEASURES: &[Measure] = &[Measure::number("x", "", (None, None), Better::Higher, Scope::Picture)];

    impl Scorer for Fake {
        fn measures(&self) -> &[Measure] {
            MEASURES
        }

        fn score(&self, pictures: &[RgbImage], _: i64, _: &[&str]) -> Result<Table> {
            Ok(Table(vec![vec![0.0]; pictures.len()]))
        }

        fn compare(&self, first: &[RgbImage], second: &[RgbImage], _: &[&str]) -> Result<Vec<f64>> {
            // docs/methods.md 21.9: 1 beats 2, 3 beats 1, 1 ties 4, 3 beats 2, 2 beats 4, 3 beats 4.
            const BEATS: [(u32, u32); 5] = [(1, 2), (3, 1), (3, 2), (2, 4), (3, 4)];
            let one = |(a, b): (&RgbImage, &RgbImage)| {
                let (a, b) = (a.width(), b.width());
                let known = if BEATS.contains(&(a, b)) {
                    1.0
                } else if BEATS.contains(&(b, a)) {
                    0.0
                } else {
                    0.5
                };
                if self.partial { 1.0 } else { known }
            };
            Ok(first.iter().zip(second).map(one).collect())
        }
    }

    /// Pictures that are told apart by their width.
    fn pictures() -> Vec<RgbImage> {
        (1..=4).map(|width| RgbImage::new(width, 1)).collect()
    }

    fn judge(partial: bool, orders: u64) -> PairJudge {
        let named = Named { name: "x".into(), scorer: Box::new(Fake { partial }), measure: 0 };
        PairJudge { config: config(Answers::Compare, orders), named }
    }

    #[test]
    fn win_rates_equal_the_fixture_whatever_the_batch_and_the_number_of_orders() {
        for (orders, batch) in [(1, 1), (1, 64), (2, 5)] {
            let found = judge(false, orders).by_comparisons(&pictures(), "p", batch).unwrap();
            let expected = [0.5, 1.0 / 3.0, 1.0, 1.0 / 6.0];
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        }
    }

    #[test]
    fn a_judge_that_prefers_a_position_says_nothing_in_both_orders() {
        assert_eq!(judge(true, 2).by_comparisons(&pictures(), "p", 64).unwrap(), [0.5; 4]);
        assert_eq!(judge(true, 1).by_comparisons(&pictures(), "p", 64).unwrap()[0], 1.0);
    }

    #[test]
    fn ratings_become_win_rates_with_ties_or_a_soft_preference() {
        let hard = config(Answers::Score, 2);
        let scores = [0.30, 0.31, 0.29, 0.31];
        assert_eq!(hard.of_scores(Better::Higher, &scores), [1.0 / 3.0, 2.5 / 3.0, 0.0, 2.5 / 3.0]);
        assert_eq!(hard.of_scores(Better::Lower, &scores), [2.0 / 3.0, 0.5 / 3.0, 1.0, 0.5 / 3.0]);
        let wide = Pairwise { tie_zone: 0.015, ..hard.clone() };
        assert_eq!(wide.of_scores(Better::Higher, &scores), [0.5, 2.0 / 3.0, 0.5 / 3.0, 2.0 / 3.0]);
        let soft = Pairwise { sharpness: Some(100.0), ..hard }.of_scores(Better::Higher, &scores[..2]);
        assert!((soft[1] - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 1e-9 && (soft[0] + soft[1] - 1.0).abs() < 1e-12);
    }
}
