//! Preference strength of pairs (RLHF secrets II, arXiv 2401.06080): mean and spread of the measures' differences.

use crate::numbers::{mean, std};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Fewest measures whose spread means something.
pub const FEWEST: usize = 3;

/// `--strength`: use of the strength of pairs by three measures or more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Strength {
    /// Not computed
    #[default]
    Off,
    /// Written as columns
    Write,
    /// Written; the weakest tenth with a mean below 0 is dropped
    Drop,
    /// Written; the weakest tenth with a mean below 0 is exchanged
    Flip,
}

/// Strength of one pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Mean and standard deviation (over n) of the differences of z-scores, winner minus loser.
    pub mean: f64,
    pub std: f64,
}

impl Measured {
    /// `None` without differences.
    pub fn of(differences: &[f64]) -> Option<Self> {
        Some(Self { mean: mean(differences)?, std: std(differences)? })
    }

    /// sigma(mean): the soft label of an ambiguous pair.
    pub fn soft_label(self) -> f64 {
        1.0 / (1.0 + (-self.mean).exp())
    }
}

/// Place of a pair in the order of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// In the lowest tenth, with a mean below 0.
    Mislabelled,
    /// In the tenth above it, or in the lowest with a mean of at least 0.
    Ambiguous,
    Clear,
}

/// Class of every pair.
pub fn classes(pairs: &[Measured]) -> Vec<Class> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|a, b| pairs[*a].mean.total_cmp(&pairs[*b].mean));
    let mut classes = vec![Class::Clear; pairs.len()];
    for (place, index) in order.into_iter().enumerate() {
        // Tenths by counts: place / n below 0.1, below 0.2.
        classes[index] = match (10 * place < pairs.len(), 10 * place < 2 * pairs.len()) {
            (true, _) if pairs[index].mean < 0.0 => Class::Mislabelled,
            (_, true) => Class::Ambiguous,
            (_, false) => Class::Clear,
        };
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_is_that_of_the_fixture() {
        // docs/methods.md 31.3
        let measured = Measured::of(&[0.4, -0.1, 0.2, 0.6]).unwrap();
        for (got, expected) in [(measured.mean, 0.275), (measured.std, 0.258602), (measured.soft_label(), 0.568320)] {
            assert!((got - expected).abs() < 1e-6, "{got}, expected {expected}");
        }
    }

    #[test]
    fn the_lowest_tenth_is_mislabelled_and_the_next_ambiguous() {
        let pairs: Vec<Measured> = (0..20).map(|i| Measured { mean: f64::from(i) - 1.0, std: 0.0 }).collect();
        let classes = classes(&pairs);
        let expected = [Class::Mislabelled, Class::Ambiguous, Class::Ambiguous, Class::Ambiguous, Class::Clear];
        assert_eq!(classes[..5], expected);
        assert!(classes[4..].iter().all(|class| *class == Class::Clear));
    }
}
