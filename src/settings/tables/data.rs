//! [data]: items, and how pictures are read and cached.

use crate::data::batches::{CropRule, Posterior};
use crate::data::cache::CacheDtype;
use crate::data::items::{ItemKind, Labels, Ties};
use crate::keys::OnResume::{Rounding, SameContent};
use crate::keys::{Auto, Kind, Range, at_least, of, one_of, text, whole, within};
use crate::settings::facts::{Facts, Refusal};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use toml::Value;

crate::choice! {
    /// `[data] crop`
    pub enum Crop {
        Center = "center",
        Random = "random",
    }
}

/// `[data] labels`
pub const LABELS: Kind = Kind::Checked { check: check_labels, words: Labels::EXPECTED };

crate::keys! {
    /// Keys about items.
    pub struct Items {
        /// pairs.jsonl, lists.jsonl or labels.jsonl, or a folder holding exactly one data file
        path: PathBuf = text().required().on_resume(SameContent),
        /// what the rows are; auto: follows from their fields
        format: Auto<ItemKind> = one_of::<ItemKind>()
            .not_built(&["pickapic", "hpdv2", "webdataset", "imagefolder"])
            .or_auto(),
        /// of the longer side
        crop: Crop = one_of::<Crop>().or_text("center"),
        /// how many offsets a random crop chooses from
        crops: i64 = whole(2, 1024).or("4"),
        /// probability of a horizontal flip, drawn for each image
        flip: f64 = within(Range::UNIT).or("0.5"),
        /// pairs labelled as ties; keep: todo only
        ties: Ties = one_of::<Ties>().or_text("drop"),
        /// who ranks the pairs: their rows, the scores of one scorer, or the more of at least two
        labels: Labels = of(LABELS).or_text("given"),
        /// 0: new draws every epoch; K: epoch e repeats those of e mod K
        draws_per_pair: u64 = at_least(0).or("0"),
        /// of the VAE
        posterior: Posterior = one_of::<Posterior>().or_text("sample"),
        /// share of unreadable items above which the run stops
        max_bad_fraction: f64 = within(Range::UNIT).or("0.01"),
    }
}

crate::keys! {
    /// Keys about pictures, whoever made them.
    pub struct Pictures {
        /// pixels; auto: sample_size x VAE factor
        resolution: Auto<i64> = whole(8, 8192).or_auto(),
        /// encoded images and prompts; default ~/.cache/diffpref (`~/` is the home folder, XDG_CACHE_HOME is
        /// honoured)
        cache_dir: Option<String> = text().on_resume(Rounding),
        /// of cached latents and embeddings
        cache_dtype: CacheDtype = one_of::<CacheDtype>().or_text("float32"),
        /// threads that decode images ahead of the encoder
        workers: Auto<usize> = whole(1, 256).or_auto().on_resume(Rounding),
    }
}

fn check_labels(value: &Value) -> Result<Value, String> {
    let parsed = value.as_str().and_then(|text| text.parse::<Labels>().ok());
    parsed.map(|labels| Value::String(labels.to_string())).ok_or_else(|| Labels::EXPECTED.into())
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DataConfig {
    /// `None`: the method trains on no items.
    #[serde(flatten)]
    pub items: Option<Items>,
    pub resolution: i64,
    pub cache_dir: PathBuf,
    pub cache_dtype: CacheDtype,
    pub workers: usize,
}

impl DataConfig {
    /// Draws that items repeat; 0: new ones every epoch.
    pub fn draws_per_pair(&self) -> u64 {
        self.items.as_ref().map_or(0, |items| items.draws_per_pair)
    }

    /// Share of unreadable items above which the run stops.
    pub fn max_bad_fraction(&self) -> f64 {
        self.items.as_ref().map_or(0.0, |items| items.max_bad_fraction)
    }
}

impl Items {
    pub fn crop_rule(&self) -> CropRule {
        match self.crop {
            Crop::Center => CropRule::Center,
            Crop::Random => CropRule::Random { crops: self.crops },
        }
    }
}

impl Pictures {
    pub(in crate::settings) fn resolve(&self, items: Option<Items>, facts: &Facts) -> Result<DataConfig, Refusal> {
        let (resolution, factor) = (self.resolution.given().unwrap_or(facts.native_resolution), facts.vae_factor);
        if resolution % factor != 0 {
            let below = resolution / factor * factor;
            return Err(format!(
                "data.resolution = {resolution}: expected a multiple of {factor}, the factor of this model's VAE. Take {} or {}.",
                below.max(factor),
                below + factor
            ));
        }
        let cache_dir = self.cache_dir.clone().unwrap_or_else(|| facts.cache_dir.clone());
        let cache_dir = match (cache_dir.strip_prefix("~/"), &facts.home) {
            (Some(below), Some(home)) => format!("{home}/{below}"),
            _ => cache_dir,
        };
        Ok(DataConfig {
            items: items.map(|items| Items { format: Auto::Given(facts.kind), ..items }),
            resolution,
            cache_dir: cache_dir.into(),
            cache_dtype: self.cache_dtype,
            workers: self.workers.given().unwrap_or(facts.cores),
        })
    }
}
