//! From latents to what their pictures are worth.

use crate::generate::Decoding;
use crate::generate::picture_of;
use crate::reward::{Ratings, Rewards};
use anyhow::Result;
use pipelines::models::AutoencoderKl;
use tch::Tensor;

/// The decoder and the scorers of a run, and the prompts of an iteration.
pub struct Pictures<'a> {
    pub vae: &'a AutoencoderKl,
    pub decoding: Decoding,
    pub rewards: &'a Rewards,
    /// Texts of the iteration's prompts.
    pub prompts: &'a [String],
}

impl Pictures<'_> {
    /// Rates the pictures of scaled latents `[B, C, h, w]`, predicted at timestep `t`, of prompts by their places.
    pub fn rate(&self, latents: &Tensor, t: i64, prompts: &[usize]) -> Result<Ratings> {
        let (pictures, texts) = self.painted(latents, prompts)?;
        self.rewards.rate(&pictures, t, &texts)
    }

    /// Rates finished pictures, by the scorers that only watch too.
    pub fn rate_finished(&self, latents: &Tensor, prompts: &[usize]) -> Result<Ratings> {
        let (pictures, texts) = self.painted(latents, prompts)?;
        self.rewards.rate_and_watch(&pictures, 0, &texts)
    }

    fn painted(&self, latents: &Tensor, prompts: &[usize]) -> Result<(Vec<image::RgbImage>, Vec<&str>)> {
        let bytes = self.decoding.decode(self.vae, &latents.to_kind(self.vae.kind()))?;
        let pictures: Result<Vec<_>> = (0..bytes.size()[0]).map(|row| picture_of(&bytes.get(row))).collect();
        Ok((pictures?, prompts.iter().map(|prompt| self.prompts[*prompt].as_str()).collect()))
    }
}
