//! Rewards of sampled pictures: a mixture of scorers, shaped over a group (docs/scorers.md).

use super::measure::Better;
use super::named::Named;
use super::pairwise::{Answers, PairJudge, Pairwise};
use super::shaping::Shaping;
use super::spec::{Rated, ScorerSpec};
use anyhow::{Context, Result};
use image::RgbImage;
use pipelines::families::ModelFolder;
use pipelines::weights::LoadOptions;
use serde::{Deserialize, Serialize};

/// [reward]: scorers of the samples, and their shaping into rewards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewardConfig {
    pub scorers: Vec<Weighted>,
    pub shaping: Shaping,
    /// Scorers that are only reported: they show a hacked reward.
    #[serde(default)]
    pub watch: Vec<Rated>,
    /// Judges of pairs of a prompt's pictures, whose win rates are weighed with the scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairwise: Vec<Pairwise>,
}

impl RewardConfig {
    /// Scorers that rewards are made of.
    pub fn teachers(&self) -> impl Iterator<Item = &ScorerSpec> {
        let judges = self.pairwise.iter().map(|judge| &judge.rated.scorer);
        self.scorers.iter().map(|weighted| &weighted.rated.scorer).chain(judges)
    }
}

/// A measure of the mixture, with the sign turned where lower is better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weighted {
    #[serde(flatten)]
    pub rated: Rated,
    pub weight: f64,
}

/// Scorers with weights, watched scorers, and the shaping into rewards.
pub struct Rewards {
    scorers: Vec<(Named, f64)>,
    watched: Vec<Named>,
    judges: Vec<PairJudge>,
    shaping: Shaping,
}

/// Ratings of pictures by one measure of every scorer, `[scorers][pictures]`, scorers in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ratings {
    pub scores: Vec<Vec<f64>>,
    /// Watched scorers; empty if they did not rate.
    pub watch: Vec<Vec<f64>>,
    /// Judges of pairs, `[judges][pictures]`: ratings, or win rates of one that compares.
    pub judged: Vec<Vec<f64>>,
}

impl Ratings {
    /// The ratings of some of the pictures, those of one group for example, in the order of `places`.
    ///
    /// # Panics
    /// Where a place is not below the number of pictures.
    pub fn select(&self, places: &[usize]) -> Self {
        let one = |row: &Vec<f64>| if row.is_empty() { Vec::new() } else { places.iter().map(|i| row[*i]).collect() };
        let pick = |rows: &[Vec<f64>]| rows.iter().map(one).collect();
        Self { scores: pick(&self.scores), watch: pick(&self.watch), judged: pick(&self.judged) }
    }

    /// Appends the ratings of further pictures by the same scorers.
    pub fn extend(&mut self, others: Self) {
        let lists =
            [(&mut self.scores, others.scores), (&mut self.watch, others.watch), (&mut self.judged, others.judged)];
        for (rows, more) in lists {
            rows.resize(rows.len().max(more.len()), Vec::new());
            rows.iter_mut().zip(more).for_each(|(row, more)| row.extend(more));
        }
    }
}

impl Rewards {
    /// Opens every configured scorer. `model`: the model that samples; `options`: device and data type of large
    /// scorers.
    ///
    /// # Errors
    /// A scorer with missing or damaged files: the text names key and scorer.
    pub fn open(config: &RewardConfig, options: LoadOptions, model: Option<&ModelFolder>) -> Result<Self> {
        let open = |rated: &[&Rated]| {
            let opened = Named::open_all(rated.iter().map(|rated| &rated.scorer), options, model)?;
            let measures = rated.iter().map(|rated| rated.measure.as_deref());
            opened
                .into_iter()
                .zip(measures)
                .map(|(named, measure)| named.of_measure(measure))
                .collect::<Result<Vec<_>>>()
        };
        let weighed: Vec<&Rated> = config.scorers.iter().map(|weighted| &weighted.rated).collect();
        let scorers = open(&weighed).context("reward.scorers")?;
        let watched = open(&config.watch.iter().collect::<Vec<_>>()).context("reward.watch")?;
        let judges = open(&config.pairwise.iter().map(|judge| &judge.rated).collect::<Vec<_>>());
        let judges = judges.context("reward.pairwise")?.into_iter().zip(config.pairwise.clone());
        let judges = judges.map(|(named, config)| PairJudge { config, named }).collect();
        let weights = config.scorers.iter().map(|weighted| weighted.weight);
        Ok(Self { judges, ..Self::new(scorers.into_iter().zip(weights).collect(), watched, config.shaping) })
    }

    /// `scorers` with their weights, `watched` beside them.
    pub fn new(scorers: Vec<(Named, f64)>, watched: Vec<Named>, shaping: Shaping) -> Self {
        Self { scorers, watched, judges: Vec::new(), shaping }
    }

    /// Names of the scorers, in the order of [`Ratings::scores`]; the second of a name has a number: style_2.
    pub fn names(&self) -> Vec<String> {
        self.scorers.iter().map(|(scorer, _)| scorer.name.clone()).collect()
    }

    /// Names of the scorers that are only reported, in the order of [`Ratings::watch`].
    pub fn watch_names(&self) -> Vec<String> {
        self.watched.iter().map(|scorer| scorer.name.clone()).collect()
    }

    /// Every scorer: weighed, watched, and judges of pairs.
    fn all(&self) -> impl Iterator<Item = &Named> {
        let weighed = self.scorers.iter().map(|(scorer, _)| scorer);
        weighed.chain(&self.watched).chain(self.judges.iter().map(|judge| &judge.named))
    }

    /// Checks whether all scorers can rate pictures of these prompts, before sampling.
    ///
    /// # Errors
    /// An unsupported prompt: the text names scorer and prompt.
    pub fn check(&self, prompts: &[String]) -> Result<()> {
        self.all().try_for_each(|scorer| scorer.check(prompts.iter().map(String::as_str)))
    }

    /// Notes about prompts whose ends a scorer does not read, one per scorer.
    ///
    /// # Errors
    /// A prompt that cannot be split into tokens.
    pub fn notes(&self, prompts: &[String]) -> Result<Vec<String>> {
        let notes = self.all().map(|scorer| scorer.note(prompts.iter().map(String::as_str)));
        Ok(notes.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Ratings of pictures by the weighed scorers, one prompt per picture. `t`: timestep of the prediction, 0 for
    /// finished pictures. A picture's numbers do not depend on those rated with it.
    ///
    /// # Errors
    /// Those of [`Named::rate`].
    pub fn rate(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Ratings> {
        let scores = self.scorers.iter().map(|(scorer, _)| scorer.rate_one(pictures, t, prompts));
        let judged = self.judges.iter().map(|judge| judge.rate(pictures, t, prompts));
        Ok(Ratings {
            scores: scores.collect::<Result<_>>()?,
            watch: Vec::new(),
            judged: judged.collect::<Result<_>>()?,
        })
    }

    /// Ratings by all scorers, including watched ones.
    ///
    /// # Errors
    /// Those of [`Named::rate`].
    pub fn rate_and_watch(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Ratings> {
        let mut ratings = self.rate(pictures, t, prompts)?;
        let watch = self.watched.iter().map(|scorer| scorer.rate_one(pictures, t, prompts));
        ratings.watch = watch.collect::<Result<_>>()?;
        Ok(ratings)
    }

    /// Whether win rates come from comparisons, which take all pictures of a prompt.
    pub fn compares(&self) -> bool {
        self.judges.iter().any(|judge| judge.config.answers == Answers::Compare)
    }

    /// Win rates of a prompt's pictures by the judges that compare, `[judges][pictures]`; empty for one that rates.
    ///
    /// # Errors
    /// Those of the judges.
    pub fn compared(&self, pictures: &[RgbImage], prompt: &str, batch: usize) -> Result<Vec<Vec<f64>>> {
        let one = |judge: &PairJudge| match judge.config.answers {
            Answers::Compare => judge.by_comparisons(pictures, prompt, batch),
            Answers::Score => Ok(Vec::new()),
        };
        self.judges.iter().map(one).collect()
    }

    /// Weighted sums of ratings, one per picture, not shaped, without win rates.
    pub fn weighted(&self, ratings: &Ratings) -> Vec<f64> {
        Shaping::None.rewards(&self.weights(), &self.oriented(ratings))
    }

    /// Rewards of a group, one per picture. A group: all pictures of a prompt in an iteration.
    pub fn shaped(&self, group: &Ratings) -> Vec<f64> {
        self.shaping.rewards(&self.weights(), &self.preferred(group))
    }

    /// Rewards of a group by every scorer alone, higher is better, `[scorers][pictures]`, shaped without its weight.
    pub fn each_shaped(&self, group: &Ratings) -> Vec<Vec<f64>> {
        self.preferred(group).into_iter().map(|row| self.shaping.rewards(&[1.0], &[row])).collect()
    }

    /// Scores of a group where higher is better, then its win rates by every judge.
    fn preferred(&self, group: &Ratings) -> Vec<Vec<f64>> {
        let wins = self.judges.iter().zip(&group.judged).map(|(judge, row)| match judge.config.answers {
            Answers::Score => judge.by_scores(row),
            Answers::Compare => row.clone(),
        });
        self.oriented(group).into_iter().chain(wins).collect()
    }

    /// Scores where higher is better.
    fn oriented(&self, ratings: &Ratings) -> Vec<Vec<f64>> {
        let turned = |((scorer, _), row): (&(Named, f64), &Vec<f64>)| match scorer.better() {
            Better::Lower => row.iter().map(|score| -score).collect(),
            Better::Higher | Better::Neither => row.clone(),
        };
        self.scorers.iter().zip(&ratings.scores).map(turned).collect()
    }

    /// Weights of the scorers, in the order of [`Ratings::scores`], then of the judges.
    pub fn weights(&self) -> Vec<f64> {
        let judges = self.judges.iter().map(|judge| judge.config.weight);
        self.scorers.iter().map(|(_, weight)| *weight).chain(judges).collect()
    }
}
