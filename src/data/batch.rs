//! A batch of items as the networks read them, and the rules that make it.

use super::image_ref::ImageRef;
use super::item::{Item, Preference};
use super::timesteps::TimestepLaw;
use super::weights::Weighting;
use pipelines::{Conditioning, Levels};
use tch::Tensor;

crate::choice! {
    /// `[data] posterior`: latents from the VAE's mean and std.
    #[derive(Default)]
    pub enum Posterior {
        #[default]
        Sample = "sample",
        Mean = "mean",
    }
}

/// `[data] crop`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CropRule {
    #[default]
    Center,
    /// One of `crops` (at least 2) evenly spaced crops, drawn per image.
    Random { crops: i64 },
}

crate::choice! {
    /// `[model] time_ids` of families that take them.
    pub enum TimeIds {
        /// The file's own size and the offsets of its crop.
        TrueSizes = "true_sizes",
        /// (R, R, 0, 0, R, R) for every image, as in the public SDXL training code.
        Constant = "constant",
    }
}

/// The images of an item that are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Images {
    #[default]
    All,
    /// Winners only: a batch has no rows of losers, and losers are not encoded.
    First,
}

impl Images {
    /// The images of `item` that are trained on.
    pub fn of(self, item: &Item) -> &[ImageRef] {
        match self {
            Images::All => &item.images,
            Images::First => &item.images[..item.images.len().min(1)],
        }
    }
}

/// The images that share their noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoiseRule {
    /// All images of an item.
    #[default]
    Shared,
    /// None: every image has its own noise.
    PerImage,
}

/// Conversion of items to tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchOptions {
    pub posterior: Posterior,
    pub crop: CropRule,
    /// Probability of a horizontal flip, per image.
    pub flip: f64,
    /// Probability of the empty prompt, per item.
    pub prompt_dropout: f64,
    /// latents = (mean + std z - shift_factor) scaling_factor
    pub scaling_factor: f64,
    pub shift_factor: f64,
    /// R
    pub resolution: u32,
    /// C, h, w
    pub latent_shape: [i64; 3],
    /// None for a family without time_ids.
    pub time_ids: Option<TimeIds>,
    pub images: Images,
    pub noise: NoiseRule,
    pub timesteps: TimestepLaw,
    /// The scorer whose scores are part of the items.
    pub scorer: Option<String>,
    /// Loss weights that follow from the data.
    pub weighting: Option<Weighting>,
    /// Probability that a position is a desirable image. `None`: one order over all items.
    pub desirable_share: Option<f64>,
    /// Positions in a row that share the timestep of the first. `None`: every item draws its own.
    pub block: Option<u64>,
}

/// Items as the networks read them, R rows: the first images of all items, then the second images of items that have
/// one, and so on. For B pairs, rows 0..B are the winners and rows B..2B the losers.
#[derive(Debug)]
pub struct Batch {
    pub items: Vec<BatchItem>,
    /// `[R, C, h, w]` float32, scaled
    pub latents: Tensor,
    /// `[R, C, h, w]` float32
    pub noise: Tensor,
    /// `[R]`, the same for all images of an item
    pub levels: Levels,
    /// `[R, ..]` float32
    pub conditioning: Conditioning,
}

/// One item of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchItem {
    pub id: String,
    /// The item's own prompt, also after prompt dropout.
    pub prompt: String,
    /// Noise level of all its rows, in the unit of the model's process.
    pub level: f64,
    /// d of its draws, for later draws.
    pub draw: u64,
    /// Items of one block have one noise level: position / `block` in training, the draw in validation. 0 without blocks.
    pub block: u64,
    /// Rows of its images, in their order.
    pub rows: Vec<i64>,
    pub preference: Preference,
    /// Factor of its loss; `None` without `[weights]`.
    pub weight: Option<f64>,
    /// Scores of its images by `method.scorer`.
    pub scores: Option<Vec<f64>>,
}

impl BatchItem {
    /// Row of the preferred image; `None` for a tie and for an undesirable image.
    pub fn best_row(&self) -> Option<i64> {
        let best = match &self.preference {
            Preference::Pair { tie: false } | Preference::Label { desirable: true } => 0,
            Preference::Pair { tie: true } | Preference::Label { desirable: false } => return None,
            // The first of equal maxima.
            Preference::List { phi } => phi.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1))?.0,
        };
        self.rows.get(best).copied()
    }
}

/// Rows of `values` `[R, ..]` that are image `k` of each item, `[n, ..]`; `None` if some item has no such image.
pub fn image_of_each(items: &[BatchItem], values: &Tensor, k: usize) -> Option<Tensor> {
    let rows: Option<Vec<i64>> = items.iter().map(|item| item.rows.get(k).copied()).collect();
    Some(values.index_select(0, &Tensor::from_slice(&rows?).to_device(values.device())))
}

/// A batch and the ids of items missing from it.
#[derive(Debug)]
pub struct Drawn {
    /// None when no item is left.
    pub batch: Option<Batch>,
    /// Ids of items left out because of an unusable image.
    pub left_out: Vec<String>,
}
