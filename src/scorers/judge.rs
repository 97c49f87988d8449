//! A small convolutional network with two heads, style and content, read from a folder.

use super::measure::Table;
use super::pixels::pixels;
use super::scorer::Files;
use anyhow::{Context, Result, bail};
use image::RgbImage;
use pipelines::models::Linear;
use pipelines::models::layers::{Conv2d, GroupNorm};
use pipelines::weights::{LoadOptions, Loader, WeightStore};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

pub(super) const FILES: Files = Files {
    form: "folder with config.json and model.safetensors",
    weights: Some("model.safetensors"),
    others: |path| Ok(vec![path.join("config.json")]),
};
pub(super) const EXAMPLE: &str = "assets/judge";
pub(super) const LICENCE: &str = "Apache-2.0 and CC-BY-4.0 for the bundled judges (assets/NOTICE)";
pub(super) const CITATION: &str = "trained by tools/demo on the drawings of assets/emoji";
/// Unit of both heads' numbers.
pub(super) const LOG_ODDS: &str = "log-odds";

/// `config.json` of a judge's folder.
#[derive(Debug, Deserialize)]
struct Config {
    /// Pixels along a side.
    resolution: u32,
    /// Width of each convolution.
    channels: Vec<i64>,
    groups: i64,
    norm_eps: f64,
    styles: Vec<String>,
    names: Vec<String>,
    /// Accuracies measured by its makers, by kind of picture.
    #[serde(default)]
    accuracy: BTreeMap<String, f64>,
}

/// Convolutions of stride 1, 2, 2, .., each with group norm and SiLU; their means and maxima go into two linear heads.
pub struct Judge {
    config: Config,
    flat: i64,
    convs: Vec<(Conv2d, GroupNorm)>,
    style: Linear,
    content: Linear,
}

impl Judge {
    /// Reads `config.json` and `model.safetensors` of a folder.
    ///
    /// # Errors
    /// When a file is missing or does not fit the other.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join("config.json");
        let text = std::fs::read(&file).with_context(|| {
            format!("cannot read {}; a judge is a folder with config.json and model.safetensors", file.display())
        })?;
        let config: Config =
            serde_json::from_slice(&text).with_context(|| format!("{} does not describe a judge", file.display()))?;
        let Some(flat) = config.styles.iter().position(|style| style == "flat") else {
            bail!(
                "{}: expected \"flat\" among `styles`, found {:?}; use a judge of flat and other drawings",
                file.display(),
                config.styles
            );
        };
        let widths_fit =
            config.groups > 0 && config.channels.iter().all(|width| *width > 0 && width % config.groups == 0);
        if config.channels.is_empty() || config.resolution == 0 || config.names.is_empty() || !widths_fit {
            bail!(
                "{}: expected names, a resolution, and channels that `groups` divides; found {} names, {} px, channels {:?}, groups {}",
                file.display(),
                config.names.len(),
                config.resolution,
                config.channels,
                config.groups
            );
        }
        let weights = dir.join("model.safetensors");
        let loader = Loader::new(WeightStore::from_file(&weights)?, &LoadOptions::cpu());
        let judge = Self {
            flat: flat as i64,
            convs: convolutions(&config, &loader),
            style: head(&config, &loader.sub("style"), config.styles.len()),
            content: head(&config, &loader.sub("content"), config.names.len()),
            config,
        };
        loader.finish()?;
        Ok(judge)
    }

    /// Style logits `[B, styles]` and content logits `[B, names]` of `images` `[B, 3, resolution, resolution]` in [-1, 1].
    pub fn logits(&self, images: &Tensor) -> (Tensor, Tensor) {
        let _frozen = tch::no_grad_guard();
        let mut hidden = images.shallow_clone();
        for (conv, norm) in &self.convs {
            hidden = norm.forward(&conv.forward(&hidden, None)).silu();
        }
        let means = hidden.mean_dim([2, 3].as_slice(), false, Kind::Float);
        let features = Tensor::cat(&[means, hidden.amax([2, 3].as_slice(), false)], 1); // [B, 2C]
        (self.style.forward(&features, None), self.content.forward(&features, None))
    }

    /// A row per picture, from its index and its logits `[styles]` and `[names]`. Each picture is passed alone: in a batch
    /// the last bits of its logits may differ.
    pub(super) fn each(
        &self,
        pictures: &[RgbImage],
        row: impl Fn(usize, &Tensor, &Tensor) -> Vec<f64>,
    ) -> Result<Table> {
        let one = |(index, picture): (usize, &RgbImage)| {
            let (style, content) = self.logits(&pixels(std::slice::from_ref(picture), self.config.resolution)?);
            Ok(row(index, &style.squeeze_dim(0), &content.squeeze_dim(0)))
        };
        pictures.iter().enumerate().map(one).collect::<Result<_>>().map(Table)
    }

    /// Index of the flat style.
    pub(super) fn flat(&self) -> i64 {
        self.flat
    }

    /// Its names.
    pub fn names(&self) -> &[String] {
        &self.config.names
    }

    /// Accuracy of one of its heads as measured by its makers, by kind of picture.
    pub(super) fn accuracy(&self, head: &str) -> BTreeMap<String, f64> {
        let of_head = self.config.accuracy.iter().filter(|(kind, _)| kind.starts_with(head));
        of_head.map(|(kind, share)| (kind.clone(), *share)).collect()
    }
}

/// log p - log(1 - p) of one of several exclusive classes, from their logits `[n]`: l_k - log sum_{j != k} exp(l_j).
/// Of a single class it is infinite.
pub(super) fn log_odds(logits: &Tensor, k: i64) -> f64 {
    let logits = logits.to_kind(Kind::Double);
    let n = logits.numel() as i64;
    let others: Vec<i64> = (0..n).filter(|j| *j != k).collect();
    let others = logits.index_select(0, &Tensor::from_slice(&others).to_device(logits.device()));
    logits.double_value(&[k]) - others.logsumexp([0].as_slice(), false).double_value(&[])
}

fn convolutions(config: &Config, loader: &Loader) -> Vec<(Conv2d, GroupNorm)> {
    let mut before = 3;
    let layer = |(index, &width): (usize, &i64)| {
        let stride = if index == 0 { 1 } else { 2 };
        let conv = Conv2d::load(&loader.sub(&format!("convs.{index}")), before, width, stride);
        let norm = GroupNorm::load(&loader.sub(&format!("norms.{index}")), config.groups, width, config.norm_eps);
        before = width;
        (conv, norm)
    };
    config.channels.iter().enumerate().map(layer).collect()
}

fn head(config: &Config, loader: &Loader, outputs: usize) -> Linear {
    let width = config.channels.last().copied().unwrap_or_default();
    Linear::load(loader, 2 * width, outputs as i64, true)
}
