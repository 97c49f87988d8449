//! Scorers together: their ratings, and what they make of them.

use super::{Scorer, Shaping, open_scorer};
use crate::settings::{RewardConfig, ScorerConfig};
use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use tch::Device;

/// A scorer and what messages and metrics call it.
pub struct Named {
    pub name: String,
    pub scorer: Box<dyn Scorer>,
}

/// What pictures are worth: scorers with weights, others that only watch, and how ratings become rewards.
pub struct Rewards {
    scorers: Vec<(Named, f64)>,
    watched: Vec<Named>,
    shaping: Shaping,
}

/// What scorers say of pictures: one row a scorer, in the order of the configuration, one number a picture in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ratings {
    pub scores: Vec<Vec<f64>>,
    /// Of the scorers that only watch; no rows where they were not asked.
    pub watch: Vec<Vec<f64>>,
}

impl Ratings {
    /// The ratings of some of the pictures, those of one group for example, in the order of `places`.
    ///
    /// # Panics
    /// Where a place is not below the number of pictures.
    pub fn select(&self, places: &[usize]) -> Self {
        let pick = |rows: &[Vec<f64>]| rows.iter().map(|row| places.iter().map(|i| row[*i]).collect()).collect();
        Self { scores: pick(&self.scores), watch: pick(&self.watch) }
    }

    /// Appends the ratings of further pictures by the same scorers.
    pub fn extend(&mut self, others: Self) {
        for (rows, more) in [(&mut self.scores, others.scores), (&mut self.watch, others.watch)] {
            rows.resize(rows.len().max(more.len()), Vec::new());
            rows.iter_mut().zip(more).for_each(|(row, more)| row.extend(more));
        }
    }
}

impl Rewards {
    /// Opens every scorer that the configuration names; what is large computes on `device`.
    ///
    /// # Errors
    /// A scorer whose files are missing or damaged: the text names key and scorer.
    pub fn open(config: &RewardConfig, device: Device) -> Result<Self> {
        let open = |key: &str, scorers: &[ScorerConfig]| -> Result<Vec<Named>> {
            let names = names_of(scorers);
            let one = |(scorer, name): (&ScorerConfig, String)| {
                let open = open_scorer(scorer, device);
                let scorer = open.with_context(|| format!("{key}: cannot open the scorer \"{}\"", scorer.name))?;
                Ok(Named { name, scorer })
            };
            scorers.iter().zip(names).map(one).collect()
        };
        let scorers = open("reward.scorers", &config.scorers)?;
        let weights = config.scorers.iter().map(|scorer| scorer.weight);
        Ok(Self::new(scorers.into_iter().zip(weights).collect(), open("reward.watch", &config.watch)?, config.shaping))
    }

    /// `scorers` with their weights, `watched` beside them.
    pub fn new(scorers: Vec<(Named, f64)>, watched: Vec<Named>, shaping: Shaping) -> Self {
        Self { scorers, watched, shaping }
    }

    /// Names of the scorers, in the order of [`Ratings::scores`]: as configured; where one stands there twice, with a
    /// number behind.
    pub fn names(&self) -> Vec<String> {
        self.scorers.iter().map(|(scorer, _)| scorer.name.clone()).collect()
    }

    /// Names of the scorers that only watch, in the order of [`Ratings::watch`].
    pub fn watch_names(&self) -> Vec<String> {
        self.watched.iter().map(|scorer| scorer.name.clone()).collect()
    }

    /// Whether every scorer, and who only watches, can rate pictures of these prompts: asked before anything is sampled.
    ///
    /// # Errors
    /// A prompt that a scorer does not know: the text names both.
    pub fn check(&self, prompts: &[String]) -> Result<()> {
        for scorer in self.scorers.iter().map(|(scorer, _)| scorer).chain(&self.watched) {
            for prompt in prompts {
                let check = scorer.scorer.check(prompt);
                check.with_context(|| format!("scorer \"{}\" cannot rate", scorer.name))?;
            }
        }
        Ok(())
    }

    /// What the scorers say of the pictures, one of each prompt. `t`: the timestep that the pictures were predicted at, 0
    /// for finished ones. A picture's numbers do not depend on those beside it. Who only watches is not asked.
    ///
    /// # Errors
    /// What a scorer cannot rate; a scorer that returns another count, or a number that is not finite: the text names
    /// scorer, picture and prompt.
    pub fn rate(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Ratings> {
        let (n, of) = (pictures.len(), prompts.len());
        ensure!(n == of, "{n} pictures with {of} prompts: expected as many");
        let scores = self.scorers.iter().map(|(scorer, _)| scorer.rate(pictures, t, prompts));
        Ok(Ratings { scores: scores.collect::<Result<_>>()?, watch: Vec::new() })
    }

    /// As [`rate`](Self::rate), and what those say who only watch.
    ///
    /// # Errors
    /// As of [`rate`](Self::rate).
    pub fn rate_and_watch(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Ratings> {
        let mut ratings = self.rate(pictures, t, prompts)?;
        let watch = self.watched.iter().map(|scorer| scorer.rate(pictures, t, prompts));
        ratings.watch = watch.collect::<Result<_>>()?;
        Ok(ratings)
    }

    /// The weighted sum of what the scorers say, one number a picture, not shaped.
    pub fn weighted(&self, ratings: &Ratings) -> Vec<f64> {
        Shaping::None.rewards(&self.weights(), &ratings.scores)
    }

    /// The rewards of pictures that are compared with each other, one a picture: all of a prompt in an iteration.
    pub fn shaped(&self, group: &Ratings) -> Vec<f64> {
        self.shaping.rewards(&self.weights(), &group.scores)
    }

    fn weights(&self) -> Vec<f64> {
        self.scorers.iter().map(|(_, weight)| *weight).collect()
    }
}

impl Named {
    fn rate(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Vec<f64>> {
        let name = &self.name;
        let numbers =
            self.scorer.score(pictures, t, prompts).with_context(|| format!("scorer \"{name}\" cannot rate"))?;
        if numbers.len() != pictures.len() {
            bail!(
                "scorer \"{name}\" rated {} of {} pictures, the first for the prompt {:?}: expected a number a picture",
                numbers.len(),
                pictures.len(),
                prompts.first().unwrap_or(&"")
            );
        }
        if let Some(i) = numbers.iter().position(|number| !number.is_finite()) {
            bail!(
                "scorer \"{name}\" rated picture {i} of {} (counted from 0), for the prompt {:?}, as {}: expected a finite number",
                pictures.len(),
                prompts[i],
                numbers[i]
            );
        }
        Ok(numbers)
    }
}

/// The names, the second and later of a name with its number behind: style, style_2.
fn names_of(scorers: &[ScorerConfig]) -> Vec<String> {
    let name = |(i, scorer): (usize, &ScorerConfig)| match scorers[..i]
        .iter()
        .filter(|other| other.name == scorer.name)
        .count()
    {
        0 => scorer.name.clone(),
        before => format!("{}_{}", scorer.name, before + 1),
    };
    scorers.iter().enumerate().map(name).collect()
}
