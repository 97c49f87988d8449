//! The source of a method's pictures, and the tables and keys that it reads.

use crate::data::items::ItemKind;
use crate::objectives::{Needs, Start};

/// Keys of [rollout] that a method replaces by its own where its trajectories are its own affair.
const REPLACED: [&str; 3] = ["steps", "eta", "guidance_scale"];

/// The source of a method's training pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The items of [data].
    Items,
    /// Trajectories sampled by the policy, from prompts, rated by scorers.
    Rollouts,
    /// A few denoising steps from noised items of [data].
    TruncatedItems,
    /// A few denoising steps from noise, with prompts.
    TruncatedNoise,
}

impl Source {
    /// The source of a method with these needs.
    pub fn of(needs: &Needs) -> Self {
        match (needs.rollouts, needs.truncated.map(|truncated| truncated.start)) {
            (Some(_), _) => Source::Rollouts,
            (None, Some(Start::Noise)) => Source::TruncatedNoise,
            (None, Some(Start::Data)) => Source::TruncatedItems,
            (None, None) => Source::Items,
        }
    }

    /// Whether there are items: [data] path is read.
    pub fn has_items(self) -> bool {
        matches!(self, Source::Items | Source::TruncatedItems)
    }

    /// Whether a method with these needs takes rows of this kind. A method that starts from images takes winners of
    /// pairs and labelled images. Labelled images can be made of pairs too, but their own rows are the intended data.
    pub fn takes(self, needs: &Needs, kind: ItemKind) -> bool {
        match self {
            Source::Items => kind == needs.items,
            Source::TruncatedItems => kind != ItemKind::Lists,
            Source::Rollouts | Source::TruncatedNoise => false,
        }
    }

    /// Whether an unread key is skipped with a note instead of refused.
    pub(super) fn passes_over(self, table: &str, key: &str) -> bool {
        self == Source::TruncatedNoise && table == "rollout" && REPLACED.contains(&key)
    }

    /// The reason why the method called `name` does not read it: the end of a sentence that names the method.
    pub(super) fn why_unread(self, table: &str) -> &'static str {
        match (self, table) {
            (Source::Items, _) => "which trains on the items of [data] and samples nothing while it trains",
            (Source::Rollouts, "data") => "which trains on pictures of its own, sampled from rollout.prompts",
            (Source::Rollouts, "validate") => {
                "which trains on pictures of its own: no item can be held out, but prompts can (validate.prompts)"
            }
            (Source::Rollouts, "timesteps") => "which trains on the timesteps of its trajectories",
            (Source::Rollouts, "safeguard") => "which compares probabilities of steps: there are no losers with errors",
            (Source::Rollouts, _) => "which trains on pictures of its own: no row has a weight",
            (_, "reward") => "which rates no picture",
            (_, "timesteps") => "which draws its timesteps from where its steps of denoising end",
            (_, "validate") => "whose loss compares no images that could be held out",
            (_, "safeguard") => "which trains no losers",
            (_, "weights") => "which weighs no losses",
            (Source::TruncatedItems, _) => "which reads [data] with method.start = \"data\"",
            (Source::TruncatedNoise, "data") => "which reads rollout.prompts with method.start = \"noise\"",
            (Source::TruncatedNoise, _) => "whose steps of denoising are method.rollout_steps and method.guidance",
        }
    }
}
