//! From latents to ratings of their pictures.

use crate::networks::Machine;
use crate::painting::{Decoding, Tiling, picture_of};
use crate::progress::Progress;
use crate::scorers::{Ratings, Rewards};
use anyhow::Result;
use pipelines::families::ModelFolder;
use pipelines::models::AutoencoderKl;
use std::path::Path;
use tch::Tensor;

/// The decoder, loaded for rating and dropped after it: not resident while training.
pub struct Studio {
    vae: AutoencoderKl,
    decoding: Decoding,
}

impl Studio {
    /// Decoder of square pictures of `resolution` pixels. `vae`: instead of the model's.
    ///
    /// # Errors
    /// A decoder that cannot be loaded.
    pub fn open(
        folder: &ModelFolder,
        vae: Option<&Path>,
        resolution: i64,
        machine: Machine,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let vae = folder.load_vae(vae, &machine.frozen())?;
        let decoding = Decoding::for_memory(&vae, (resolution, resolution), Tiling::Auto, machine.device, progress);
        Ok(Self { vae, decoding })
    }

    /// Rated by the scorers of `rewards`; `prompts`: texts by place.
    pub fn pictures<'a>(&'a self, rewards: &'a Rewards, prompts: &'a [String]) -> Pictures<'a> {
        Pictures { vae: &self.vae, decoding: &self.decoding, rewards, prompts }
    }
}

/// A decoder with scorers and prompts.
pub struct Pictures<'a> {
    vae: &'a AutoencoderKl,
    decoding: &'a Decoding,
    pub rewards: &'a Rewards,
    prompts: &'a [String],
}

impl Pictures<'_> {
    /// Rates the pictures of scaled latents `[B, C, h, w]`, predicted at timestep `t`, of prompts by their places.
    pub fn rate(&self, latents: &Tensor, t: i64, prompts: &[usize]) -> Result<Ratings> {
        let (pictures, texts) = self.painted(latents, prompts)?;
        self.rewards.rate(&pictures, t, &texts)
    }

    /// Rates finished pictures, by watched scorers too.
    pub fn rate_finished(&self, latents: &Tensor, prompts: &[usize]) -> Result<Ratings> {
        let (pictures, texts) = self.painted(latents, prompts)?;
        self.rewards.rate_and_watch(&pictures, 0, &texts)
    }

    /// Win rates of the finished pictures `[G, C, h, w]` of one prompt, by the judges that compare.
    pub fn compare(&self, latents: &Tensor, prompt: usize, batch: usize) -> Result<Vec<Vec<f64>>> {
        let (pictures, _) = self.painted(latents, &[])?;
        self.rewards.compared(&pictures, &self.prompts[prompt], batch)
    }

    fn painted(&self, latents: &Tensor, prompts: &[usize]) -> Result<(Vec<image::RgbImage>, Vec<&str>)> {
        let bytes = self.decoding.decode(self.vae, &latents.to_kind(self.vae.kind()))?;
        let pictures: Result<Vec<_>> = (0..bytes.size()[0]).map(|row| picture_of(&bytes.get(row))).collect();
        Ok((pictures?, prompts.iter().map(|prompt| self.prompts[*prompt].as_str()).collect()))
    }
}
