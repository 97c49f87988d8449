//! `diffpref data cache` as a library call: latents and embeddings of a data set, encoded ahead of trainings.

use super::gather::{Gathered, gather};
use crate::data::batches::Plan;
use crate::data::cache::CacheDtype;
use crate::data::encoding::Encoding;
use crate::data::items::Format;
use crate::data::transforms::{Crop, View};
use crate::keys::ConfigError;
use crate::painting::check_size;
use crate::progress::{Progress, Stop};
use anyhow::Result;
use pipelines::families::ModelFolder;
use pipelines::hub::Location;
use pipelines::lora::Lora;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use tch::Device;

/// Images whose views are planned at once.
const CHUNK: usize = 512;

/// A part of the work, for several processes: images i with i mod `of` = `part`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub part: usize,
    pub of: usize,
}

impl FromStr for Share {
    type Err = String;

    /// `I/N`, I from 1.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((part, of)) if (1..=of).contains(&part) => Ok(Self { part: part - 1, of }),
            _ => Err(format!("{text:?}: expected I/N with I from 1 to N, for example 1/4")),
        }
    }
}

/// The views of each image.
#[derive(Debug, Clone, Copy)]
pub struct Views {
    /// Mirrored views too.
    pub flip: bool,
    /// Random crops, besides the centre; 0: the centre only.
    pub crops: i64,
}

impl Views {
    fn crops(self) -> Vec<Crop> {
        let random = (0..self.crops).map(|index| Crop::At { index, count: self.crops });
        std::iter::once(Crop::Center).chain(random).collect()
    }
}

/// Options of `diffpref data cache`.
#[derive(Debug, Clone)]
pub struct CacheRequest {
    pub path: PathBuf,
    /// `None`: recognised.
    pub format: Option<Format>,
    pub model: Location,
    pub vae: Option<PathBuf>,
    pub clip_skip: i64,
    /// Pixels per side; `None`: the model's own.
    pub resolution: Option<i64>,
    pub views: Views,
    pub share: Share,
    pub device: Device,
    pub dtype: CacheDtype,
    pub cache_dir: PathBuf,
    pub workers: usize,
}

/// The content of the cache for a data set.
#[derive(Debug, Serialize)]
pub struct Encoded {
    pub images: usize,
    pub views: usize,
    pub prompts: usize,
    pub resolution: i64,
    /// Image and reason.
    pub unreadable: BTreeMap<String, String>,
    pub cache_dir: PathBuf,
}

/// Encodes all views of all images and all prompts. What the cache holds already is not encoded again.
///
/// # Errors
/// A model or data that cannot be opened, a resolution that does not fit, a full disk; `Stopped`: finished records stay.
pub fn encode_ahead(request: &CacheRequest, progress: &dyn Progress, stop: &Stop) -> Result<Encoded> {
    if request.views.crops == 1 {
        return Err(ConfigError("--crops 1: expected 0 (the centre) or at least 2, as data.crops".into()).into());
    }
    let folder = ModelFolder::find(&request.model, &mut |line| progress.line(line))?;
    let resolution = request.resolution.unwrap_or_else(|| folder.native_resolution());
    check_size(resolution, resolution, folder.vae().factor())?;
    let Gathered { images, prompts, .. } = gather(&request.path, request.format, 0, 0, stop)?;
    let Share { part, of } = request.share;
    let images: Vec<_> =
        images.into_iter().enumerate().filter(|(i, _)| i % of == part).map(|(_, image)| image).collect();
    // Every process needs the embeddings, one of them writes them.
    let prompts: Vec<String> = if part == 0 { prompts } else { Vec::new() };
    let encoding = Encoding {
        folder: &folder,
        vae: request.vae.as_deref(),
        text_lora: &Lora::default(),
        text_lora_files: Vec::new(),
        clip_skip: request.clip_skip,
        device: request.device,
        cache_dir: &request.cache_dir,
        dtype: request.dtype,
        min_size: 0,
        workers: request.workers,
        resolution: resolution as u32,
        latent_shape: folder.latent().shape(resolution, resolution),
    };
    let crops = request.views.crops();
    let flips: &[bool] = if request.views.flip { &[false, true] } else { &[false] };
    let of_prompts = prompts.chunks(CHUNK).map(|prompts| {
        let mut plan = Plan::default();
        prompts.iter().for_each(|prompt| plan.prompt(prompt));
        plan
    });
    let of_images = images.chunks(CHUNK).map(|images| {
        let mut plan = Plan::default();
        for image in images {
            for (crop, flip) in crops.iter().flat_map(|crop| flips.iter().map(move |flip| (*crop, *flip))) {
                plan.view(View { image: image.clone(), flip, crop });
            }
        }
        plan
    });
    let mut empty = Plan::default();
    empty.prompt("");
    let mut unreadable = BTreeMap::new();
    let mut chunks = std::iter::once(empty).chain(of_prompts).chain(of_images);
    let views = images.len() * crops.len() * flips.len();
    let total = (views + prompts.len() + 1) as u64;
    encoding.fill_chunks(&mut chunks, total, progress, stop, &mut |bad| {
        unreadable.extend(bad.iter().map(|(image, reason)| (image.to_string(), reason.clone())));
    })?;
    Ok(Encoded {
        images: images.len(),
        views,
        prompts: prompts.len() + 1,
        resolution,
        unreadable,
        cache_dir: request.cache_dir.clone(),
    })
}
