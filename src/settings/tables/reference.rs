//! [reference]: what the policy is compared with.

use crate::keys::OnResume::Rounding;
use crate::keys::{Auto, Range, at_least, one_of, within};
use crate::objectives::Needs;
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
        On = "on",
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
        /// on: errors of the reference are stored in the cache folder and read again (docs/ledger.md); auto: off
        ledger: Auto<Ledger> = one_of::<Ledger>().or_auto().on_resume(Rounding),
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

impl ReferenceConfig {
    /// Whether errors of the reference are stored. "auto" is off: without draws that repeat, or other runs with the same
    /// ones, a ledger only costs.
    pub fn stores_errors(&self) -> bool {
        match self.ledger {
            Auto::Given(Ledger::On) => true,
            Auto::Given(Ledger::Off) | Auto::Auto => false,
        }
    }
}

/// Why a method cannot use stored errors of a reference; `None` if it can.
pub fn no_ledger(needs: &Needs, kind: ReferenceKind) -> Option<&'static str> {
    match kind {
        _ if !needs.reference => Some("the method compares with no reference"),
        _ if needs.rollouts.is_some() => Some("it trains on trajectories that the policy samples"),
        _ if needs.truncated.is_some() => Some("its targets are the policy's own predictions"),
        _ if needs.inversion.is_some() => Some("its noisy latents are inversions by the policy"),
        _ if needs.drift => Some("its loss reads predictions of the reference, not errors alone"),
        ReferenceKind::Updated => Some("the reference moves (reference.kind = \"updated\")"),
        ReferenceKind::Frozen => None,
    }
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
