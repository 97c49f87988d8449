//! Options of `diffpref pairs`.

use super::combine::Combination;
use super::filters::Requirement;
use super::measures::By;
use super::own::OwnLabels;
use super::replay::Replay;
use super::rules::Rule;
use super::strength::Strength;
use crate::keys::ConfigError;
use clap::ValueEnum;
use std::path::PathBuf;

/// `--ties`: pairs with equal combined numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Ties {
    /// Written with label "tie"
    #[default]
    Keep,
    /// Dropped and counted
    Drop,
}

/// Options of `diffpref pairs`.
#[derive(Debug, Clone)]
pub struct Request {
    /// scores.jsonl files; rows of one picture and prompt are merged. With `own`: folders of pictures, or tables that
    /// name them.
    pub scores: Vec<PathBuf>,
    /// A prompt that several of `scores` have keeps its rows of the last one.
    pub newest: bool,
    /// Files of votes of people in place of scores; then `combine` is `robust`.
    pub votes: Vec<PathBuf>,
    /// A model labels the pictures in place of scores.
    pub own: Option<OwnLabels>,
    /// Empty: the first measure of every scorer.
    pub by: Vec<By>,
    /// Measures where lower is better, for files without a scores.json.
    pub lower: Vec<String>,
    pub combine: Combination,
    pub rule: Rule,
    pub require: Vec<Requirement>,
    /// Smallest margin of the combined number.
    pub min_margin: f64,
    pub ties: Ties,
    pub strength: Strength,
    /// k of the column `weight`, sigma(k margin) over its mean; `None`: no column.
    pub margin_weight: Option<f64>,
    /// Rows of earlier files that are written too.
    pub replay: Option<Replay>,
    /// Share of the prompts that go into refresh.jsonl, above 0 and at most 1.
    pub refresh: Option<f64>,
    /// Pairs of `Rule::SmallMargins`.
    pub budget: usize,
    /// JSON file with the Elo rating of every `model` of the rows, for calibration.
    pub elo: Option<PathBuf>,
    pub report: bool,
    pub out: PathBuf,
}

impl Request {
    /// # Errors
    /// Options that do not go together, numbers outside their range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError(text));
        if !self.votes.is_empty() && self.combine != Combination::Robust {
            return refuse("--votes are ranked by --combine robust alone; leave --combine out".into());
        }
        let list = self.rule == Rule::List;
        if list && (!self.require.is_empty() || self.min_margin != 0.0 || self.strength != Strength::Off) {
            return refuse(
                "--rule list writes whole lists: --require, --min-margin and --strength are for pairs; leave them out"
                    .into(),
            );
        }
        if !(self.min_margin >= 0.0 && self.min_margin.is_finite()) {
            return refuse(format!("--min-margin {}: expected a number from 0 up", self.min_margin));
        }
        if let Some(k) = self.margin_weight
            && !(k > 0.0 && k.is_finite())
        {
            return refuse(format!("--margin-weight {k}: expected a number above 0"));
        }
        let makes_pairs = match self.rule {
            Rule::BestWorst | Rule::Mu2Sigma | Rule::WorstOfFive | Rule::All => true,
            Rule::SmallMargins | Rule::List => false,
        };
        if self.margin_weight.is_some() && !makes_pairs {
            return refuse("--margin-weight is a column of pairs; take a --rule that makes pairs to train on".into());
        }
        self.check_loops()
    }

    fn check_loops(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError(text));
        if let Some(share) = self.refresh
            && !(share > 0.0 && share <= 1.0)
        {
            return refuse(format!("--refresh {share}: expected a share above 0 and at most 1"));
        }
        if let Some(Replay { share, .. }) = &self.replay
            && !(*share > 0.0 && *share < 1.0)
        {
            return refuse(format!("--replay {share}: expected a share above 0 and below 1"));
        }
        if self.replay.is_some() && self.rule == Rule::SmallMargins {
            return refuse("--replay adds rows to train on, and --rule small_margins makes none; leave one out".into());
        }
        Ok(())
    }
}
