//! Measures of a scorer, and the table of its numbers.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One number per picture of a scorer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    pub name: Cow<'static, str>,
    /// Empty for numbers without a unit.
    pub unit: Cow<'static, str>,
    pub range: Range,
    pub better: Better,
    pub scope: Scope,
}

impl Measure {
    /// A decision about a picture: 0 or 1, more is better.
    pub const fn decision(name: &'static str, scope: Scope) -> Self {
        let (name, unit) = (Cow::Borrowed(name), Cow::Borrowed(""));
        Self { name, unit, range: Range::Decision, better: Better::Higher, scope }
    }

    /// A real number; more is better.
    pub const fn real(
        name: &'static str,
        unit: &'static str,
        min: Option<f64>,
        max: Option<f64>,
        scope: Scope,
    ) -> Self {
        Self::number(name, unit, (min, max), Better::Higher, scope)
    }

    /// A real number in [min, max].
    pub const fn number(
        name: &'static str,
        unit: &'static str,
        (min, max): (Option<f64>, Option<f64>),
        better: Better,
        scope: Scope,
    ) -> Self {
        let (name, unit) = (Cow::Borrowed(name), Cow::Borrowed(unit));
        Self { name, unit, range: Range::Real { min, max }, better, scope }
    }

    /// Whether the mean over pictures is a share, written in per cent.
    pub fn is_share(&self) -> bool {
        self.range == Range::Decision
    }

    /// A mean as text, without its unit: "45.0 %", "1.234".
    pub fn written(&self, mean: f64) -> String {
        if self.is_share() { format!("{:.1} %", mean * 100.0) } else { format!("{mean:.3}") }
    }

    /// A difference of means with its interval as text: "+25.0 points [+18.0, +31.5]".
    pub fn difference_written(&self, mean: f64, lo: f64, hi: f64) -> String {
        match (self.is_share(), self.unit.as_ref()) {
            (true, _) => format!("{:+.1} points [{:+.1}, {:+.1}]", mean * 100.0, lo * 100.0, hi * 100.0),
            (false, "") => format!("{mean:+.3} [{lo:+.3}, {hi:+.3}]"),
            (false, unit) => format!("{mean:+.3} {unit} [{lo:+.3}, {hi:+.3}]"),
        }
    }

    /// Name in text: "flat share", "log odds".
    pub fn title(&self) -> String {
        self.name.replace('_', " ")
    }
}

/// Range of a measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Range {
    /// 0 or 1; the mean over pictures is a share.
    Decision,
    /// All real numbers in [min, max]; `None`: unbounded.
    Real { min: Option<f64>, max: Option<f64> },
}

/// Preference of a measure between two pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Higher,
    Lower,
    /// A property without a preference.
    Neither,
}

/// Inputs of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The picture; the prompt is not read.
    Picture,
    /// The picture and its prompt.
    Prompt,
}

/// Numbers of pictures by one scorer, `[pictures, measures]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table(pub Vec<Vec<f64>>);

impl Table {
    /// The table of a scorer with one measure.
    pub fn of_column(numbers: impl IntoIterator<Item = f64>) -> Self {
        Self(numbers.into_iter().map(|number| vec![number]).collect())
    }

    /// All numbers of measure `index`, one per picture.
    ///
    /// # Panics
    /// If the scorer has no such measure.
    pub fn column(&self, index: usize) -> Vec<f64> {
        self.0.iter().map(|row| row[index]).collect()
    }
}
