//! [validate]: what is held out, and how often it is measured.

use super::rollout::Prompts;
use crate::keys::OnResume::{Harmless, SameContent};
use crate::keys::{Kind, Range, at_least, of, text, whole, within};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

crate::keys! {
    pub struct HeldOutItems {
        /// share of the prompts held out
        fraction: f64 = within(Range::FRACTION).or("0.05"),
        /// another data file instead of a share
        path: Option<PathBuf> = text().on_resume(SameContent),
        /// held-out pairs used
        max_pairs: usize = at_least(1).or("64"),
        /// end the run when val_gradient_factor, 0.5 at the start, falls below this
        stop_at_gradient_factor: Option<f64> = within(Range::INSIDE).on_resume(Harmless),
    }
}

crate::keys! {
    pub struct HeldOutPrompts {
        /// methods that sample: prompts that are not trained on, a list or a file
        prompts: Option<Prompts> = of(Kind::TextsOrFile).on_resume(SameContent),
    }
}

crate::keys! {
    pub struct Often {
        /// steps between validations; 0: off
        every: u64 = at_least(0).or("100").on_resume(Harmless),
        /// fixed (timestep, noise) draws for each pair, or pictures of each prompt
        draws: u64 = whole(1, 1000).or("4"),
    }
}

/// Held-out data.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeldOut {
    Items(HeldOutItems),
    Prompts { prompts: Prompts },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ValidateConfig {
    #[serde(flatten)]
    pub held_out: HeldOut,
    pub every: u64,
    pub draws: u64,
}

impl ValidateConfig {
    /// Held-out items that are used, at most.
    pub fn max_pairs(&self) -> usize {
        match &self.held_out {
            HeldOut::Items(items) => items.max_pairs,
            HeldOut::Prompts { .. } => 0,
        }
    }

    /// Least gradient factor of the held-out pairs with which the run continues.
    pub fn stop_at(&self) -> Option<f64> {
        match &self.held_out {
            HeldOut::Items(items) => items.stop_at_gradient_factor,
            HeldOut::Prompts { .. } => None,
        }
    }

    /// The file of held-out items, where there is one.
    pub fn path(&self) -> Option<&PathBuf> {
        match &self.held_out {
            HeldOut::Items(items) => items.path.as_ref(),
            HeldOut::Prompts { .. } => None,
        }
    }
}
