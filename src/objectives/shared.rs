//! Keys of [method] shared by several methods, each declared once.

use super::needs::Scored;
use crate::data::items::ItemKind;
use crate::keys::{Auto, Key, Range, of, one_of, switch, text, within};
use serde::{Deserialize, Serialize};

crate::choice! {
    /// Space of the errors in margins and metrics; both are equal for epsilon models.
    pub enum ErrorSpace {
        Epsilon = "epsilon",
        /// The model's own parameterisation.
        Native = "native",
    }
}

/// beta of a method (docs/methods.md 0.3).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "Auto<f64>", into = "Auto<f64>")]
pub enum BetaRule {
    Fixed(f64),
    /// Adaptive, starting at the method's default.
    Auto {
        from: f64,
    },
}

impl From<Auto<f64>> for BetaRule {
    fn from(key: Auto<f64>) -> Self {
        match key {
            Auto::Given(beta) => Self::Fixed(beta),
            // The default follows from the family: `Entry::method` fills it in.
            Auto::Auto => Self::Auto { from: f64::NAN },
        }
    }
}

impl From<BetaRule> for Auto<f64> {
    fn from(rule: BetaRule) -> Self {
        match rule {
            BetaRule::Fixed(beta) => Self::Given(beta),
            BetaRule::Auto { .. } => Self::Auto,
        }
    }
}

/// beta of most methods, in the units of docs/methods.md 0.3.
pub const BETA: Key =
    within(Range::POSITIVE).or("5000.0").named("beta").helped(" strength of the pull to the reference");
/// beta with "auto" allowed.
pub const BETA_AUTO: Key = Key { auto: true, ..BETA };

pub const PROMPT_DROPOUT: Key =
    within(Range::UNIT).or("0.2").helped(" probability of the empty prompt, drawn for the whole item");
/// Value of the published runs of a few methods.
pub const NO_PROMPT_DROPOUT: Key = PROMPT_DROPOUT.or("0.0");
pub const ERROR: Key = one_of::<ErrorSpace>().or_text("epsilon").helped(" space of margins and metrics of v models");

crate::keys! {
    /// Keys of most methods with items.
    #[derive(Copy)]
    pub struct Offline {
        prompt_dropout: f64 = PROMPT_DROPOUT,
        error: ErrorSpace = ERROR,
    }
}

/// Source of the scores of pairs.
pub const SCORER: Key = text().named("scorer").helped(" whose scores of the rows are read");
/// Lowest and highest of those scores.
pub const SCORE_RANGE: Key = of(crate::keys::Kind::RealPair(Range::ANY))
    .or_auto()
    .named("score_range")
    .helped(" [lowest, highest] score, mapped to [0, 1]; auto: over both images of all training pairs");

crate::keys! {
    /// Scores of pairs, mapped to [0, 1].
    pub struct Scores {
        scorer: Option<String> = SCORER,
        score_range: Auto<[f64; 2]> = SCORE_RANGE,
    }
}

impl Scores {
    pub fn need(&self) -> Scored {
        Scored { range: Some(self.score_range), ..Scored::by(self.scorer.clone()) }
    }

    /// Lowest and highest score; [0, 1] until the data is known.
    pub fn range(&self) -> [f64; 2] {
        self.score_range.given().unwrap_or([0.0, 1.0])
    }
}

crate::choice! {
    /// Kind of the rows of a method that compares columns of winners and losers.
    pub enum Rows {
        /// A winner and a loser each.
        Pairs = "pairs",
        /// Labelled images; pairs become labelled images too.
        Labels = "labels",
    }
}

pub const ITEMS: Key =
    one_of::<Rows>().or_text("pairs").helped(" pairs: winners and losers; labels: images, desirable or not");

impl Rows {
    pub fn kind(self) -> ItemKind {
        match self {
            Self::Pairs => ItemKind::Pairs,
            Self::Labels => ItemKind::Labels,
        }
    }
}

pub const SHARED_NOISE: Key = switch().or("false").helped(" one noise for all images of a list, as pairs have it");
