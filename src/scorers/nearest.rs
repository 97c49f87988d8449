//! Judges without training: the nearest of all drawings gives style and name.

use super::{BATCH, Drawings, Judge, Opinion, numbers, pixels};
use crate::machine::hashes;
use anyhow::{Context, Result};
use image::RgbImage;
use image::imageops::flip_horizontal;
use pipelines::models::AutoencoderKl;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Euclidean distance to every drawing, in pixels or in the posterior means of a VAE.
pub struct Nearest {
    drawings: Drawings,
    /// None: pixels.
    vae: Option<(AutoencoderKl, Device)>,
    /// `[drawings, D]`
    points: Tensor,
    names: Vec<String>,
    hash: String,
}

impl Nearest {
    /// The nearest drawing in pixels.
    pub fn pixels(drawings: Drawings) -> Result<Self> {
        let hash = drawings.hash.clone();
        Self::new(drawings, None, hash)
    }

    /// The nearest drawing in the latents of a VAE (on `device`), whose weights have the hash `vae_hash`.
    pub fn latents(drawings: Drawings, vae: AutoencoderKl, device: Device, vae_hash: &str) -> Result<Self> {
        let hash = hashes::of_bytes(format!("{} {vae_hash}", drawings.hash).as_bytes());
        Self::new(drawings, Some((vae, device)), hash)
    }

    fn new(drawings: Drawings, vae: Option<(AutoencoderKl, Device)>, hash: String) -> Result<Self> {
        let mut names = drawings.names.clone();
        names.sort();
        names.dedup();
        let mut judge = Self { drawings, vae, points: Tensor::new(), names, hash };
        judge.points = judge.embed(&judge.drawings.images)?;
        Ok(judge)
    }

    /// `[B, D]` float32 on the CPU.
    fn embed(&self, pictures: &[RgbImage]) -> Result<Tensor> {
        let _frozen = tch::no_grad_guard();
        let mut points = Vec::new();
        for batch in pictures.chunks(BATCH) {
            let images = pixels(batch, self.drawings.side)?;
            let point = match &self.vae {
                None => images,
                Some((vae, device)) => {
                    let mean = vae.encode(&images.to_device(*device).to_kind(vae.kind()))?.mean;
                    mean.to_device(Device::Cpu).to_kind(Kind::Float)
                }
            };
            points.push(point.flatten(1, -1));
        }
        Tensor::f_cat(&points, 0).context("there is no picture to judge")
    }
}

impl Judge for Nearest {
    fn key(&self) -> &'static str {
        if self.vae.is_some() { "nearest_latents" } else { "nearest_pixels" }
    }

    fn about(&self) -> String {
        let space = if self.vae.is_some() { "VAE latents" } else { "pixels" };
        format!("Judge without training: style and name of the nearest drawing in {space}")
    }

    fn hash(&self) -> String {
        self.hash.clone()
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    /// On the drawings themselves every nearest neighbour is right; on their mirror images it has to be recognised.
    fn accuracy(&self) -> Result<BTreeMap<String, f64>> {
        let mirrored: Vec<RgbImage> = self.drawings.images.iter().map(flip_horizontal).collect();
        let opinions = self.judge(&mirrored)?;
        let count = opinions.len().max(1) as f64;
        let right = |right: &dyn Fn(usize, &Opinion) -> bool| {
            opinions.iter().enumerate().filter(|(i, opinion)| right(*i, opinion)).count() as f64 / count
        };
        let style = right(&|i, opinion| (opinion.flat > 0.5) == self.drawings.flat[i]);
        let content = right(&|i, opinion| opinion.name == self.drawings.names[i]);
        Ok([("style_on_mirrored_drawings".to_string(), style), ("content_on_mirrored_drawings".to_string(), content)]
            .into())
    }

    fn judge(&self, pictures: &[RgbImage]) -> Result<Vec<Opinion>> {
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let distances = Tensor::f_cdist(&self.embed(pictures)?, &self.points, 2.0, None)?; // [B, drawings]
        let nearest: Vec<i64> = numbers(&distances.argmin(1, false))?;
        let opinion = |index: &i64| {
            let index = *index as usize;
            let flat = self.drawings.flat.get(index).copied().unwrap_or_default();
            Opinion {
                flat: f64::from(u8::from(flat)),
                name: self.drawings.names.get(index).cloned().unwrap_or_default(),
            }
        };
        Ok(nearest.iter().map(opinion).collect())
    }
}
