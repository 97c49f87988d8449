//! [data]: items, and how pictures are read and cached.

use crate::data::batches::{CropRule, Posterior};
use crate::data::cache::CacheDtype;
use crate::data::filters::{Filters, Finding};
use crate::data::items::{Format, Labels, Ties};
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
        /// a data file, a folder with one data set, or a pattern of files such as data/train-*.parquet
        path: PathBuf = text().required().on_resume(SameContent),
        /// format of the data set (docs/data.md); auto: recognised from the files
        format: Auto<Format> = one_of::<Format>().or_auto(),
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
        /// pairs whose winner and loser have the same bytes
        #[serde(default)]
        same_image: Finding = one_of::<Finding>().or_text("keep"),
        /// pairs that repeat an earlier pair of their prompt, by the bytes of their images
        #[serde(default)]
        repeated: Finding = one_of::<Finding>().or_text("keep"),
        /// pairs of a prompt with winner and loser the other way round, by bytes; drop: all of them
        #[serde(default)]
        contradictions: Finding = one_of::<Finding>().or_text("keep"),
        /// least score of the winner minus that of the loser by gap_scorer; 0 drops winners with a lower score
        #[serde(default)]
        min_gap: Option<f64> = within(Range::ANY),
        /// scorer of min_gap; default: that of labels = "score:NAME"
        #[serde(default)]
        gap_scorer: Option<String> = text(),
        /// rows with one of these words in the prompt are left out; capitals do not matter
        #[serde(default)]
        blocked_words: Option<Vec<String>> = of(Kind::Texts),
        /// rows of a prompt that are used, the first ones; 0: all
        #[serde(default)]
        max_per_prompt: u64 = at_least(0).or("0"),
        /// least shorter side of an image in pixels; an item with a smaller one is left out like an unreadable one, and not
        /// counted as bad; 0: any
        #[serde(default)]
        min_size: i64 = at_least(0).or("0"),
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
    /// The filters of rows. `cache_dir`: folder of remembered hashes.
    ///
    /// # Errors
    /// A gap without its scorer, or a scorer without a gap.
    pub fn filters(&self, cache_dir: PathBuf) -> Result<Filters, Refusal> {
        let by_labels = match &self.labels {
            Labels::Score(scorer) => Some(scorer.clone()),
            Labels::Given | Labels::Vote(_) => None,
        };
        let gap = match (self.min_gap, self.gap_scorer.clone().or(by_labels)) {
            (Some(least), Some(scorer)) => Some((scorer, least)),
            (Some(least), None) => {
                return Err(format!("data.min_gap = {least}: the scorer is missing. Name it in data.gap_scorer."));
            }
            (None, _) if self.gap_scorer.is_some() => {
                return Err("data.gap_scorer goes with data.min_gap. Set data.min_gap, or remove the key.".into());
            }
            (None, _) => None,
        };
        Ok(Filters {
            same_image: self.same_image == Finding::Drop,
            repeated: self.repeated == Finding::Drop,
            contradictions: self.contradictions == Finding::Drop,
            gap,
            blocked_words: self.blocked_words.iter().flatten().map(|word| word.trim().to_lowercase()).collect(),
            max_per_prompt: usize::try_from(self.max_per_prompt).unwrap_or(usize::MAX),
            cache_dir,
        })
    }

    pub fn crop_rule(&self) -> CropRule {
        match self.crop {
            Crop::Center => CropRule::Center,
            Crop::Random => CropRule::Random { crops: self.crops },
        }
    }
}

impl Pictures {
    /// The cache folder. `~/` is the folder `home`.
    pub fn cache_dir(&self, default: &str, home: Option<&str>) -> PathBuf {
        let given = self.cache_dir.as_deref().unwrap_or(default);
        match (given.strip_prefix("~/"), home) {
            (Some(below), Some(home)) => format!("{home}/{below}").into(),
            _ => given.into(),
        }
    }

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
        Ok(DataConfig {
            items: items.map(|items| Items { format: Auto::Given(facts.format), ..items }),
            resolution,
            cache_dir: self.cache_dir(&facts.cache_dir, facts.home.as_deref()),
            cache_dtype: self.cache_dtype,
            workers: self.workers.given().unwrap_or(facts.cores),
        })
    }
}
