//! [reference]: what the policy is compared with.

use crate::keys::OnResume::Rounding;
use crate::keys::{Auto, Range, at_least, one_of, within};
use crate::settings::facts::Facts;
use serde::{Deserialize, Serialize};

crate::choice! {
    /// `[reference] kind`
    pub enum ReferenceKind {
        Frozen = "frozen",
        /// The policy of some steps ago.
        Updated = "updated",
    }
}

crate::choice! {
    /// `[reference] ledger`
    pub enum Ledger {
        Off = "off",
    }
}

crate::choice! {
    /// `[reference] placement`
    pub enum Placement {
        Device = "device",
    }
}

crate::keys! {
    pub struct Parsed {
        /// the start model for the whole run, or the policy of some steps ago
        kind: ReferenceKind = one_of::<ReferenceKind>().or_text("frozen"),
        /// updated: steps between copies
        every: u64 = at_least(1).or("32"),
        /// updated: mean error gained over the start model at which the copies end
        divergence_limit: Option<f64> = within(Range::POSITIVE).by_family(LIMIT),
        /// updated: smoothing of that gain; 0: none
        divergence_ema: f64 = within(Range::FRACTION).or("0.9"),
        /// stored reference errors
        ledger: Auto<Ledger> = one_of::<Ledger>().not_built(&["on"]).or_auto(),
        /// device of the reference
        placement: Placement = one_of::<Placement>().not_built(&["cpu"]).or_text("device").on_resume(Rounding),
    }
}

const LIMIT: &str = "0.005";

/// How a reference follows the policy.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Updates {
    /// Steps between copies.
    pub every: u64,
    /// Mean error gained over the start model at which the copies end.
    pub divergence_limit: f64,
    /// Smoothing of that gain, in [0, 1).
    pub divergence_ema: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReferenceConfig {
    pub kind: ReferenceKind,
    /// `None`: the reference stays the start model.
    #[serde(flatten)]
    pub updates: Option<Updates>,
    pub ledger: Auto<Ledger>,
    pub placement: Placement,
}

impl Parsed {
    pub(in crate::settings) fn resolve(&self, facts: &Facts) -> ReferenceConfig {
        let limit = || facts.family.default("reference", "divergence_limit").unwrap_or(LIMIT).parse().ok();
        let updates = match self.kind {
            ReferenceKind::Frozen => None,
            ReferenceKind::Updated => Some(Updates {
                every: self.every,
                divergence_limit: self.divergence_limit.or_else(limit).unwrap_or(f64::INFINITY),
                divergence_ema: self.divergence_ema,
            }),
        };
        ReferenceConfig { kind: self.kind, updates, ledger: self.ledger, placement: self.placement }
    }
}
