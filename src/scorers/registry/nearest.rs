//! Style and content without training: those of the nearest of all drawings.

use crate::keys::nearest;
use crate::scorers::drawings::{self, Drawings};
use crate::scorers::measure::{Measure, Scope, Table};
use crate::scorers::pixels::pixels;
use crate::scorers::scorer::{Declaration, Files, Opening, Scorer};
use anyhow::{Context, Result, bail};
use image::RgbImage;
use image::imageops::flip_horizontal;
use pipelines::models::AutoencoderKl;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Pictures encoded at once.
const BATCH: usize = 64;

/// The nearest drawing in pixels.
pub const PIXELS: Declaration = Declaration {
    name: "nearest_pixels",
    about: "Style and name of the nearest drawing in pixels",
    measures: MEASURES,
    files: FILES,
    reads_vae: false,
    example: EXAMPLE,
    licence: LICENCE,
    citation: CITATION,
    open: |opening| Ok(Box::new(Nearest::new(Drawings::read(opening.path)?, None)?)),
};

/// The nearest drawing in the posterior means of the model's VAE.
pub const LATENTS: Declaration = Declaration {
    name: "nearest_latents",
    about: "Style and name of the nearest drawing in the latents of the model's VAE",
    measures: MEASURES,
    files: FILES,
    reads_vae: true,
    example: EXAMPLE,
    licence: LICENCE,
    citation: CITATION,
    open: |opening| Ok(Box::new(Nearest::new(Drawings::read(opening.path)?, Some(vae(opening)?))?)),
};

const FILES: Option<Files> = Some(Files { form: drawings::FORM, weights: None, others: Drawings::files });
const EXAMPLE: &str = "assets/emoji";
const LICENCE: &str = "Apache-2.0 and CC-BY-4.0 for the bundled drawings (assets/NOTICE)";
const CITATION: &str = "none: Euclidean distance";
const MEASURES: &[Measure] =
    &[Measure::decision("flat_share", Scope::Picture), Measure::decision("content_accuracy", Scope::Prompt)];

fn vae(opening: &Opening) -> Result<(AutoencoderKl, Device)> {
    let model = opening.model.context("it compares latents, and there is no model whose VAE encodes them")?;
    Ok((model.load_vae(None, &opening.options)?, opening.options.device))
}

/// Euclidean distance to every drawing.
struct Nearest {
    drawings: Drawings,
    /// `None`: pixels.
    vae: Option<(AutoencoderKl, Device)>,
    /// `[drawings, D]`
    points: Tensor,
}

impl Nearest {
    fn new(drawings: Drawings, vae: Option<(AutoencoderKl, Device)>) -> Result<Self> {
        let mut nearest = Self { drawings, vae, points: Tensor::new() };
        nearest.points = nearest.embed(&nearest.drawings.images)?;
        Ok(nearest)
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
        Tensor::f_cat(&points, 0).context("there is no picture to compare")
    }

    /// Index of the nearest drawing, one per picture.
    fn nearest(&self, pictures: &[RgbImage]) -> Result<Vec<usize>> {
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let distances = Tensor::f_cdist(&self.embed(pictures)?, &self.points, 2.0, None)?; // [B, drawings]
        let indices = Vec::<i64>::try_from(&distances.argmin(1, false).contiguous())?;
        Ok(indices.into_iter().map(|index| index as usize).collect())
    }
}

impl Scorer for Nearest {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    fn check(&self, prompt: &str) -> Result<()> {
        if self.drawings.names.iter().any(|name| name == prompt) {
            return Ok(());
        }
        let known: Vec<&str> = self.drawings.names.iter().map(String::as_str).collect();
        let hint = nearest(prompt, &known).map_or(String::new(), |name| format!(", did you mean \"{name}\"?"));
        bail!("there is no drawing of the prompt \"{prompt}\"{hint}")
    }

    fn score(&self, pictures: &[RgbImage], _: i64, prompts: &[&str]) -> Result<Table> {
        let row = |(index, prompt): (usize, &&str)| {
            vec![f64::from(self.drawings.flat[index]), f64::from(self.drawings.names[index] == *prompt)]
        };
        Ok(Table(self.nearest(pictures)?.into_iter().zip(prompts).map(row).collect()))
    }

    /// Every drawing is nearest to itself; its mirror image has to be recognised.
    fn accuracy(&self) -> Result<BTreeMap<String, f64>> {
        let mirrored: Vec<RgbImage> = self.drawings.images.iter().map(flip_horizontal).collect();
        let found = self.nearest(&mirrored)?;
        let share = |right: &dyn Fn(usize, usize) -> bool| {
            let hits = found.iter().enumerate().filter(|(drawing, found)| right(*drawing, **found)).count();
            hits as f64 / found.len().max(1) as f64
        };
        let Drawings { flat, names, .. } = &self.drawings;
        let style = share(&|drawing, found| flat[drawing] == flat[found]);
        let content = share(&|drawing, found| names[drawing] == names[found]);
        Ok([("style_on_mirrored_drawings".to_string(), style), ("content_on_mirrored_drawings".to_string(), content)]
            .into())
    }
}
