//! What a sampled picture is worth while a model trains on its own samples: scorers, their mixture, and how rewards are
//! shaped (docs/rewards.md). Whoever asks never knows which scorer answers.

use anyhow::Result;
use image::RgbImage;

/// Rates pictures of prompts.
pub trait Scorer {
    /// One number a picture, in their order; more is better. `t`: the timestep of the noisy latents from which the picture
    /// was predicted, 0 for a finished one; a scorer that does not know noise ignores it.
    ///
    /// # Errors
    /// What the scorer cannot rate: a prompt that it does not know, a picture that it cannot read.
    fn score(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Vec<f64>>;
}
