//! From a position of the run to tensors: which item it is, what is drawn for it, and what the cache must hold.
//!
//! A missing image renumbers nothing: its item keeps its position and is left out of the batch.

use super::cache::{LatentCache, Moments};
use super::draws::Draws;
use super::items::{Item, Preference};
use super::positions::Positions;
use super::text_cache::TextCache;
use super::timesteps::TimestepLaw;
use super::transforms::{Crop, View};
use super::weights::Weighting;
use anyhow::Result;
use pipelines::models::Conditioning;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

crate::choice! {
    /// `[data] posterior`: how latents come from the VAE's mean and std.
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
    /// One of `crops` (at least 2) evenly spaced crops, drawn for each image.
    Random { crops: i64 },
}

crate::choice! {
    /// `[model] time_ids` of families that take them.
    pub enum TimeIds {
        /// The file's own size and the crop that was taken.
        TrueSizes = "true_sizes",
        /// R, R, 0, 0, R, R for every image, as the public SDXL training code has it.
        Constant = "constant",
    }
}

/// Which images of an item are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Images {
    #[default]
    All,
    /// Winners alone: a batch has rows for them only, and losers are not encoded.
    First,
}

impl Images {
    /// The images of `item` that are trained on.
    pub fn of(self, item: &Item) -> &[PathBuf] {
        match self {
            Images::All => &item.images,
            Images::First => &item.images[..item.images.len().min(1)],
        }
    }
}

/// Which images share their noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoiseRule {
    /// All images of an item.
    #[default]
    Shared,
    /// None: every image has its own.
    PerImage,
}

/// How items become tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchOptions {
    pub posterior: Posterior,
    pub crop: CropRule,
    /// Probability of a horizontal flip, for each image.
    pub flip: f64,
    /// Probability of the empty prompt, for each item.
    pub prompt_dropout: f64,
    /// latents = (mean + std z - shift_factor) scaling_factor
    pub scaling_factor: f64,
    pub shift_factor: f64,
    /// R
    pub resolution: u32,
    /// C, h, w
    pub latent_shape: [i64; 3],
    /// None: the family takes none.
    pub time_ids: Option<TimeIds>,
    pub images: Images,
    pub noise: NoiseRule,
    pub timesteps: TimestepLaw,
    /// The scorer whose scores come with the items.
    pub scorer: Option<String>,
    /// Loss weights that follow from the data.
    pub weighting: Option<Weighting>,
    /// Probability that a position is a desirable image; `None`: all items take turns.
    pub desirable_share: Option<f64>,
}

/// Items as the networks get them, R rows: the first images of all items, then the second ones of those that have one,
/// and so on. Of B pairs, rows 0..B are the winners and rows B..2B the losers.
#[derive(Debug)]
pub struct Batch {
    pub items: Vec<BatchItem>,
    /// `[R, C, h, w]` float32, scaled
    pub latents: Tensor,
    /// `[R, C, h, w]` float32
    pub noise: Tensor,
    /// `[R]` int64, the same for all images of an item
    pub timesteps: Tensor,
    /// `[R, ..]` float32
    pub conditioning: Conditioning,
}

/// What a batch says of one of its items.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchItem {
    pub id: String,
    /// The item's own, also where it was dropped.
    pub prompt: String,
    pub timestep: i64,
    /// d of its draws, for those that are made later.
    pub draw: u64,
    /// The row of each of its images, in their order.
    pub rows: Vec<i64>,
    pub preference: Preference,
    /// The factor of its loss; `None` where `[weights]` gives none.
    pub weight: Option<f64>,
    /// Scores of all its images by `method.scorer`.
    pub scores: Option<Vec<f64>>,
}

impl BatchItem {
    /// The row of the image that is preferred to the others; `None` for a tie and an undesirable one.
    pub fn best_row(&self) -> Option<i64> {
        let best = match &self.preference {
            Preference::Pair { tie: false } | Preference::Label { desirable: true } => 0,
            Preference::Pair { tie: true } | Preference::Label { desirable: false } => return None,
            // The first of the highest.
            Preference::List { phi } => phi.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1))?.0,
        };
        self.rows.get(best).copied()
    }
}

/// The rows of `values` `[R, ..]` that are image `k` of each item, `[n, ..]`; `None` where some item has no such image.
pub fn image_of_each(items: &[BatchItem], values: &Tensor, k: usize) -> Option<Tensor> {
    let rows: Option<Vec<i64>> = items.iter().map(|item| item.rows.get(k).copied()).collect();
    Some(values.index_select(0, &Tensor::from_slice(&rows?).to_device(values.device())))
}

/// A batch, and what is missing from it.
#[derive(Debug)]
pub struct Drawn {
    /// None when no item is left.
    pub batch: Option<Batch>,
    /// Ids of items that were left out because an image cannot be used.
    pub left_out: Vec<String>,
}

/// What the cache must hold before some positions can be drawn.
#[derive(Debug, Default)]
pub struct Plan {
    /// Distinct views in the order in which they are read.
    pub views: Vec<View>,
    /// Distinct prompts in the order in which they are read.
    pub prompts: Vec<String>,
    /// Indices of the training items that are read.
    pub train: BTreeSet<usize>,
    seen_views: HashSet<View>,
    seen_prompts: HashSet<String>,
}

impl Plan {
    fn view(&mut self, view: View) {
        if self.seen_views.insert(view.clone()) {
            self.views.push(view);
        }
    }

    /// Adds a prompt, as samples while training need it.
    pub fn prompt(&mut self, prompt: &str) {
        if self.seen_prompts.insert(prompt.to_string()) {
            self.prompts.push(prompt.to_string());
        }
    }
}

/// The training items of a run, ready to be drawn from.
pub struct Batches {
    items: Vec<Item>,
    /// One an item, where the data weighs losses.
    factors: Option<Vec<f64>>,
    positions: Positions,
    draws: Draws,
    options: BatchOptions,
}

/// What one row of a batch is made of.
struct Row {
    latents: Tensor,
    noise: Tensor,
    time_ids: [i64; 6],
}

/// An item with its rows, before they are numbered.
struct Drafted {
    item: BatchItem,
    /// The item's prompt, or "".
    prompt: String,
    rows: Vec<Row>,
}

impl Batches {
    /// Without items there is no position either.
    ///
    /// # Errors
    /// Weights that cannot be used, a class of labelled images without an item.
    pub fn new(items: Vec<Item>, draws: Draws, options: BatchOptions) -> Result<Self> {
        let positions = Positions::new(&items, options.desirable_share, draws)?;
        let factors = options.weighting.map(|weighting| weighting.factors(&items)).transpose()?;
        Ok(Self { items, factors, positions, draws, options })
    }

    /// n: items of an epoch.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Index of the item at a position, and its pass: the epoch of the position (labelled images drawn by class: how
    /// often the item's class was gone through before).
    pub fn item(&self, position: u64) -> Result<(usize, u64)> {
        self.positions.item(position)
    }

    /// The images that the first `positions` positions read, without drawing any pixel.
    pub fn images(&self, positions: u64) -> Result<BTreeSet<&PathBuf>> {
        let mut images = BTreeSet::new();
        for position in 0..self.positions.all_seen_after().map_or(positions, |all| positions.min(all)) {
            let (index, _) = self.item(position)?;
            images.extend(self.options.images.of(&self.items[index]));
        }
        Ok(images)
    }

    /// Everything that the given positions read.
    pub fn plan(&self, positions: Range<u64>) -> Result<Plan> {
        let mut plan = Plan::default();
        for position in positions {
            let (index, pass) = self.item(position)?;
            let (item, d) = (&self.items[index], self.draws.draw_of_epoch(pass));
            plan.train.insert(index);
            for (k, image) in self.options.images.of(item).iter().enumerate() {
                plan.view(self.view(item, k, image, d)?);
            }
            plan.prompt(self.prompt(item, d));
        }
        Ok(plan)
    }

    /// Adds what the validation of `items` reads: the centres of all their images, not flipped, and their own prompts.
    pub fn plan_validation(&self, plan: &mut Plan, items: &[Item]) {
        for item in items {
            for image in &item.images {
                plan.view(View::center(image.clone()));
            }
            plan.prompt(&item.prompt);
        }
    }

    fn view(&self, item: &Item, k: usize, image: &Path, d: u64) -> Result<View> {
        let crop = match self.options.crop {
            CropRule::Center => Crop::Center,
            CropRule::Random { crops } => Crop::At { index: self.draws.crop(d, k, &item.id, crops)?, count: crops },
        };
        let flip = self.draws.flip(d, k, &item.id, self.options.flip);
        Ok(View { image: image.to_path_buf(), flip, crop })
    }

    fn prompt<'a>(&self, item: &'a Item, d: u64) -> &'a str {
        if self.draws.dropout(d, &item.id, self.options.prompt_dropout) { "" } else { &item.prompt }
    }

    /// Draws the items at some positions: a micro-batch. Nothing depends on which positions come together, or on how
    /// often they are asked for.
    ///
    /// # Errors
    /// A view or prompt that was not planned, a cache record damaged since.
    pub fn batch(&self, positions: Range<u64>, latents: &LatentCache, texts: &TextCache) -> Result<Drawn> {
        let (mut left_out, mut drafts) = (Vec::new(), Vec::new());
        for position in positions {
            let (index, pass) = self.item(position)?;
            match self.draw(index, self.draws.draw_of_epoch(pass), latents)? {
                Some(draft) => drafts.push(draft),
                None => left_out.push(self.items[index].id.clone()),
            }
        }
        let batch = if drafts.is_empty() { None } else { Some(self.assemble(drafts, texts)?) };
        Ok(Drawn { batch, left_out })
    }

    /// An item with the rows of its images in their order; None when one of them cannot be used.
    fn draw(&self, index: usize, d: u64, latents: &LatentCache) -> Result<Option<Drafted>> {
        let (item, shape) = (&self.items[index], &self.options.latent_shape);
        let shared = match self.options.noise {
            NoiseRule::Shared => Some(self.draws.noise(d, &item.id, shape)),
            NoiseRule::PerImage => None,
        };
        let mut rows = Vec::new();
        for (k, image) in self.options.images.of(item).iter().enumerate() {
            let Some(moments) = latents.moments(&self.view(item, k, image, d)?)? else { return Ok(None) };
            let raw = match self.options.posterior {
                Posterior::Sample => &moments.mean + &moments.std * self.draws.vae(d, k, &item.id, shape),
                Posterior::Mean => moments.mean.shallow_clone(),
            };
            let noise = match &shared {
                Some(noise) => noise.shallow_clone(),
                None => self.draws.image_noise(d, k, &item.id, shape),
            };
            rows.push(self.row(&raw, &moments, noise));
        }
        let timestep = self.draws.timestep(d, &item.id, &self.options.timesteps)?;
        let weight = self.factors.as_ref().and_then(|factors| factors.get(index)).copied();
        let prompt = self.prompt(item, d).to_string();
        Ok(Some(Drafted { item: self.described(item, timestep, d, weight), prompt, rows }))
    }

    fn row(&self, raw: &Tensor, moments: &Moments, noise: Tensor) -> Row {
        Row {
            latents: (raw - self.options.shift_factor) * self.options.scaling_factor,
            noise,
            time_ids: moments.time_ids,
        }
    }

    /// What a batch says of an item, its rows not yet numbered.
    fn described(&self, item: &Item, timestep: i64, draw: u64, weight: Option<f64>) -> BatchItem {
        BatchItem {
            id: item.id.clone(),
            prompt: item.prompt.clone(),
            timestep,
            draw,
            rows: Vec::new(),
            preference: item.preference.clone(),
            weight,
            scores: self.options.scorer.as_ref().and_then(|scorer| item.scores.get(scorer)).cloned(),
        }
    }

    /// All draws of one validation item, each an item of the batch with rows for all its images, whatever the method
    /// trains. The same in every run: posterior mean, centre crop, no flip, no dropout, no weights, noise and timesteps
    /// that do not depend on the seed. None when an image cannot be used.
    pub fn validation_batch(
        &self,
        item: &Item,
        draws: u64,
        latents: &LatentCache,
        texts: &TextCache,
    ) -> Result<Option<Batch>> {
        let mut images = Vec::new();
        for image in &item.images {
            let Some(moments) = latents.moments(&View::center(image.clone()))? else { return Ok(None) };
            images.push(moments);
        }
        let drafted = |j: u64| {
            let noise = self.draws.val_noise(j, &item.id, &self.options.latent_shape);
            let rows = images.iter().map(|m| self.row(&m.mean, m, noise.shallow_clone())).collect();
            let described = self.described(item, self.draws.val_timestep(j, draws), j, None);
            Drafted { item: described, prompt: item.prompt.clone(), rows }
        };
        self.assemble((0..draws).map(drafted).collect(), texts).map(Some)
    }

    /// Numbers the rows of items and puts them together, first images first.
    fn assemble(&self, mut drafts: Vec<Drafted>, texts: &TextCache) -> Result<Batch> {
        let most = drafts.iter().map(|draft| draft.rows.len()).max().unwrap_or(0);
        let (mut rows, mut prompts, mut timesteps) = (Vec::new(), Vec::new(), Vec::new());
        for k in 0..most {
            for draft in drafts.iter_mut().filter(|draft| k < draft.rows.len()) {
                draft.item.rows.push(timesteps.len() as i64);
                timesteps.push(draft.item.timestep);
            }
        }
        for k in 0..most {
            for (draft, row) in drafts.iter().filter_map(|draft| Some((draft, draft.rows.get(k)?))) {
                rows.push(row);
                prompts.push(draft.prompt.as_str());
            }
        }
        let stack = |part: fn(&Row) -> &Tensor| Tensor::f_stack(&rows.iter().map(|r| part(r)).collect::<Vec<_>>(), 0);
        let mut conditioning = texts.conditioning(&prompts)?;
        conditioning.time_ids = self.options.time_ids.map(|rule| self.time_ids(rule, &rows));
        Ok(Batch {
            latents: stack(|r| &r.latents)?,
            noise: stack(|r| &r.noise)?,
            timesteps: Tensor::from_slice(&timesteps),
            conditioning,
            items: drafts.into_iter().map(|draft| draft.item).collect(),
        })
    }

    /// `[rows, 6]` float32
    fn time_ids(&self, rule: TimeIds, rows: &[&Row]) -> Tensor {
        let r = i64::from(self.options.resolution);
        let of_row = |row: &&Row| match rule {
            TimeIds::TrueSizes => row.time_ids,
            TimeIds::Constant => [r, r, 0, 0, r, r],
        };
        let values: Vec<i64> = rows.iter().flat_map(of_row).collect();
        Tensor::from_slice(&values).view([rows.len() as i64, 6]).to_kind(Kind::Float).to_device(Device::Cpu)
    }
}
