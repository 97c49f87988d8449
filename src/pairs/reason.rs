//! Why prompts and pairs are dropped.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a prompt or a pair is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A prompt with one candidate
    OneCandidate,
    /// A prompt with too few candidates for `robust`
    TooFewCandidates,
    /// A prompt with candidates that votes do not compare with the others, not even by way of a third
    Unconnected,
    /// A prompt whose measures form a cycle and whose combined numbers are all equal
    Cycle,
    Tie,
    BelowMargin,
    NotPareto,
    VoteTied,
    VoteAgainst,
    /// A comparison that does not fit the others
    CorruptedVote,
    /// Among the weakest tenth of pairs, with a mean difference below 0
    Mislabelled,
    /// Beyond the budget of annotation
    Budget,
}

impl Reason {
    /// "12 pairs have a margin below --min-margin" without the number.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::OneCandidate => "prompts with one candidate",
            Self::TooFewCandidates => "prompts with fewer than 4 candidates, which --combine robust needs",
            Self::Unconnected => "prompts whose votes do not connect all candidates",
            Self::Cycle => "prompts whose measures form a cycle and rank nothing",
            Self::Tie => "ties (--ties keep keeps them)",
            Self::BelowMargin => "pairs below --min-margin",
            Self::NotPareto => "pairs whose winner is not better by every measure (--require pareto)",
            Self::VoteTied => "pairs with a tied vote (--require vote)",
            Self::VoteAgainst => "pairs with a vote against the winner (--require vote)",
            Self::CorruptedVote => "pairs whose vote does not fit the others (--combine robust)",
            Self::Mislabelled => "pairs that are probably mislabelled (--strength drop)",
            Self::Budget => "pairs beyond --budget",
        }
    }
}

/// Counts by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped(pub BTreeMap<Reason, usize>);

impl Dropped {
    pub fn add(&mut self, reason: Reason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// "3 ties (..), 12 pairs below --min-margin"
    pub fn in_words(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|(reason, n)| format!("{n} {}", reason.in_words())).collect();
        if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
    }
}
