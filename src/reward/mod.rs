//! What a sampled picture is worth while a model trains on its own samples: scorers, their mixture, and how rewards are
//! shaped (docs/rewards.md). Whoever asks never knows which scorer answers.

mod compressibility;
mod judged;
mod rewards;
mod shaping;
#[cfg(test)]
mod tests;

pub use judged::LARGEST;
pub use rewards::{Named, Ratings, Rewards};
pub use shaping::Shaping;

use crate::settings::ScorerConfig;
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

/// What `name` of an entry in [reward] stands for.
pub struct ScorerKind {
    pub name: &'static str,
    /// What its numbers depend on; `None`: it reads no files, and an entry has no `path`.
    pub folder: Option<Folder>,
    /// Opens what lies at `path`, which is empty where there is no folder. What is small computes on the CPU, wherever the
    /// run trains.
    pub open: fn(&Path, Device) -> Result<Box<dyn Scorer>>,
}

/// The files below `path` that a scorer's numbers depend on.
pub struct Folder {
    pub weights: &'static str,
    /// All others.
    pub settings: &'static [&'static str],
}

/// Every scorer that is built.
pub const REGISTRY: &[ScorerKind] = &[judged::STYLE, judged::CONTENT, compressibility::COMPRESSIBILITY];

/// Scorers of publications that this version refuses.
pub const NOT_BUILT: &[&str] =
    &["aesthetic", "clip", "hpsv2", "hpsv3", "imagereward", "mps", "pickscore", "spo-preference", "vqascore"];

/// The names of [`REGISTRY`].
pub fn names() -> Vec<&'static str> {
    REGISTRY.iter().map(|kind| kind.name).collect()
}

/// The kind that is called so.
///
/// # Errors
/// A name that is not registered.
pub fn kind(name: &str) -> Result<&'static ScorerKind> {
    let known = || format!("there is no scorer \"{name}\"; there are: {}", names().join(", "));
    REGISTRY.iter().find(|kind| kind.name == name).with_context(known)
}

/// The weights of a scorer; `None`: it has none.
///
/// # Errors
/// A name that is not registered.
pub fn weights(scorer: &ScorerConfig) -> Result<Option<PathBuf>> {
    let folder = kind(&scorer.name)?.folder.as_ref();
    Ok(folder.map(|folder| scorer.path.join(folder.weights)))
}

/// All files that the numbers of a scorer depend on.
///
/// # Errors
/// A name that is not registered.
pub fn files(scorer: &ScorerConfig) -> Result<Vec<PathBuf>> {
    let settings = kind(&scorer.name)?.folder.as_ref().map_or(&[][..], |folder| folder.settings);
    Ok(settings.iter().map(|file| scorer.path.join(file)).chain(weights(scorer)?).collect())
}

fn open_scorer(scorer: &ScorerConfig, device: Device) -> Result<Box<dyn Scorer>> {
    (kind(&scorer.name)?.open)(&scorer.path, device)
}
