//! What a sampled picture is worth while a model trains on its own samples: scorers, their mixture, and how rewards are
//! shaped (docs/rewards.md). Whoever asks never knows which scorer answers.

mod judged;
mod rewards;
mod shaping;
#[cfg(test)]
mod tests;

pub use judged::LARGEST;
pub use rewards::{Named, Ratings, Rewards};
pub use shaping::Shaping;

use crate::config::ScorerConfig;
use anyhow::{Context, Result};
use image::RgbImage;
use std::path::{Path, PathBuf};
use tch::Device;

/// Rates pictures of prompts.
pub trait Scorer {
    /// One number a picture, in their order; more is better. `t`: the timestep of the noisy latents from which the picture
    /// was predicted, 0 for a finished one; a scorer that does not know noise ignores it. A picture's number must be the
    /// same to the last bit whatever pictures are beside it: a resumed run may ask for others together.
    ///
    /// # Errors
    /// What the scorer cannot rate: a prompt that it does not know, a picture that it cannot read.
    fn score(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Vec<f64>>;

    /// Whether it can rate pictures of this prompt: asked before anything is sampled.
    ///
    /// # Errors
    /// A prompt that it does not know.
    fn check(&self, _prompt: &str) -> Result<()> {
        Ok(())
    }
}

/// A kind of scorer: what `name` of an entry in [reward] stands for.
pub struct Kind {
    pub name: &'static str,
    /// The files of `path` that its numbers depend on.
    pub files: fn(&Path) -> Vec<PathBuf>,
    /// Opens what lies at `path`. What is small computes on the CPU, wherever the run trains.
    pub open: fn(&Path, Device) -> Result<Box<dyn Scorer>>,
}

/// Every scorer that is built.
pub const REGISTRY: &[Kind] = &[judged::STYLE, judged::CONTENT];

/// Scorers of publications that this version refuses.
pub const NOT_BUILT: &[&str] =
    &["aesthetic", "clip", "hpsv2", "hpsv3", "imagereward", "mps", "pickscore", "spo-preference", "vqascore"];

/// The names of [`REGISTRY`].
pub fn names() -> Vec<&'static str> {
    REGISTRY.iter().map(|kind| kind.name).collect()
}

fn kind(name: &str) -> Result<&'static Kind> {
    let known = || format!("there is no scorer \"{name}\"; there are: {}", names().join(", "));
    REGISTRY.iter().find(|kind| kind.name == name).with_context(known)
}

/// The files that the numbers of a scorer depend on.
///
/// # Errors
/// A name that is not registered.
pub fn files(scorer: &ScorerConfig) -> Result<Vec<PathBuf>> {
    Ok((kind(&scorer.name)?.files)(&scorer.path))
}

fn open_scorer(scorer: &ScorerConfig, device: Device) -> Result<Box<dyn Scorer>> {
    (kind(&scorer.name)?.open)(&scorer.path, device)
}
