//! [safeguard]: what keeps losers from pushing against their winners.

use crate::keys::{Range, one_of, within};
use crate::objectives::Needs;
use crate::settings::facts::Facts;
use serde::{Deserialize, Serialize};

crate::choice! {
    /// `[safeguard] name`
    pub enum Safeguard {
        None = "none",
        Sdpo = "sdpo",
    }
}

crate::keys! {
    pub struct Parsed {
        /// sdpo: losers may not push against their winners
        name: Safeguard = one_of::<Safeguard>().or_text("none"),
        /// sdpo: the share that a winner keeps of its own step; 1: losers that push against it are not trained
        mu: Option<f64> = within(Range::UNIT),
    }
}

/// `[safeguard]` of a run that has one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SafeguardConfig {
    pub name: Safeguard,
    /// In [0, 1].
    pub mu: f64,
}

impl Parsed {
    pub(in crate::settings) fn resolve(&self, needs: &Needs, facts: &Facts) -> Option<SafeguardConfig> {
        let own = || facts.family.default("safeguard", "mu").and_then(|literal| literal.parse().ok());
        match self.name {
            Safeguard::None => None,
            Safeguard::Sdpo => {
                Some(SafeguardConfig { name: self.name, mu: self.mu.or_else(own).unwrap_or(needs.safeguard_mu) })
            }
        }
    }
}
