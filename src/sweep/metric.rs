//! Metrics that rank trials: numbers of metrics.jsonl, or figures of an evaluation.

use super::file::{Direction, Judge};
use crate::scorers::Better;

/// A metric by name.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// A key of metrics.jsonl; its newest value counts.
    Training(String),
    /// A figure of an evaluation.
    Figure { scorer: String, measure: String, form: Form },
}

/// Number of a measure that counts, per prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Mean,
    /// Share of pictures better than the start model's of the same noise; equal ones count half.
    WinRate,
    /// Share of pictures as good as the best third of the start model's.
    BestThird,
}

impl Metric {
    /// A figure if the name begins with a scorer of the evaluation, else a training metric.
    pub fn of(name: &str, judge: Option<&Judge>) -> Self {
        let scorers = judge.map(scorer_names).unwrap_or_default();
        let mut parts = name.split('.');
        let (scorer, measure, form, rest) =
            (parts.next().unwrap_or_default(), parts.next(), parts.next(), parts.next());
        let form = match form {
            None => Some(Form::Mean),
            Some("win_rate") => Some(Form::WinRate),
            Some("best_third") => Some(Form::BestThird),
            Some(_) => None,
        };
        match (measure, form, rest) {
            (Some(measure), Some(form), None) if scorers.iter().any(|name| name == scorer) => {
                Self::Figure { scorer: scorer.into(), measure: measure.into(), form }
            }
            _ => Self::Training(name.into()),
        }
    }

    /// The name in files and messages.
    pub fn name(&self) -> String {
        match self {
            Self::Training(name) => name.clone(),
            Self::Figure { scorer, measure, form: Form::Mean } => format!("{scorer}.{measure}"),
            Self::Figure { scorer, measure, form: Form::WinRate } => format!("{scorer}.{measure}.win_rate"),
            Self::Figure { scorer, measure, form: Form::BestThird } => format!("{scorer}.{measure}.best_third"),
        }
    }

    /// The better end: as given, else that of the measure (`better`), else the larger one.
    pub fn direction(&self, given: Option<Direction>, better: Option<Better>) -> Direction {
        let own = match (self, better) {
            (Self::Figure { form: Form::Mean, .. }, Some(Better::Lower)) => Direction::Min,
            _ => Direction::Max,
        };
        given.unwrap_or(own)
    }
}

/// Names of the scorers of an evaluation; the second of a name has a number.
pub fn scorer_names(judge: &Judge) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for scorer in &judge.scorer {
        let name = scorer.split_once('=').map_or(scorer.as_str(), |(name, _)| name);
        let same = judge
            .scorer
            .iter()
            .take(names.len())
            .filter(|other| other.split_once('=').map_or(other.as_str(), |(n, _)| n) == name);
        let count = same.count();
        names.push(if count == 0 { name.to_string() } else { format!("{name}_{}", count + 1) });
    }
    names
}
