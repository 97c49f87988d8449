//! Batches: the item at a position of the run, its draws, and the required cache records.
//!
//! A missing image does not renumber anything: its item keeps its position and is left out of the batch.

use super::cache::{LatentCache, Moments};
use super::draws::Draws;
use super::image_ref::ImageRef;
use super::item::Item;
use super::positions::Positions;
use super::text_cache::TextCache;
use super::transforms::{Crop, View};
use anyhow::Result;
use pipelines::Levels;
use pipelines::conditioning::PictureSizes;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use tch::Tensor;

pub use super::batch::{
    Batch, BatchItem, BatchOptions, CropRule, Drawn, Images, NoiseRule, Posterior, TimeIds, image_of_each,
};

/// The cache records that some positions require.
#[derive(Debug, Default)]
pub struct Plan {
    /// Distinct views in reading order.
    pub views: Vec<View>,
    /// Distinct prompts in reading order.
    pub prompts: Vec<String>,
    /// Indices of the training items.
    pub train: BTreeSet<usize>,
    seen_views: HashSet<View>,
    seen_prompts: HashSet<String>,
}

impl Plan {
    /// Adds a view.
    pub fn view(&mut self, view: View) {
        if self.seen_views.insert(view.clone()) {
            self.views.push(view);
        }
    }

    /// Adds a prompt, for samples while training.
    pub fn prompt(&mut self, prompt: &str) {
        if self.seen_prompts.insert(prompt.to_string()) {
            self.prompts.push(prompt.to_string());
        }
    }
}

/// The training items of a run with their draws.
pub struct Batches {
    items: Vec<Item>,
    /// One factor per item, if the data has loss weights.
    factors: Option<Vec<f64>>,
    positions: Positions,
    draws: Draws,
    options: BatchOptions,
}

/// One row of a batch before encoding.
struct Row {
    latents: Tensor,
    noise: Tensor,
    sizes: PictureSizes,
}

/// An item with its rows, before they are numbered.
struct Drafted {
    item: BatchItem,
    /// The item's prompt, or "".
    prompt: String,
    rows: Vec<Row>,
}

impl Batches {
    /// No items, no positions.
    ///
    /// # Errors
    /// Unusable weights, a class of labelled images without an item.
    pub fn new(items: Vec<Item>, draws: Draws, options: BatchOptions) -> Result<Self> {
        let positions = Positions::new(&items, options.desirable_share, draws)?;
        let factors = options.weighting.map(|weighting| weighting.factors(&items)).transpose()?;
        Ok(Self { items, factors, positions, draws, options })
    }

    /// n, the number of items of an epoch.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn items(&self) -> &[Item] {
        &self.items
    }

    pub fn options(&self) -> &BatchOptions {
        &self.options
    }

    /// Index of the item at a position, and its pass: the epoch of the position (for labelled images drawn by class:
    /// the number of completed passes of its class).
    pub fn item(&self, position: u64) -> Result<(usize, u64)> {
        self.positions.item(position)
    }

    /// The images of the first `positions` positions, without decoding any.
    pub fn images(&self, positions: u64) -> Result<BTreeSet<&ImageRef>> {
        let mut images = BTreeSet::new();
        for position in 0..self.positions.all_seen_after().map_or(positions, |all| positions.min(all)) {
            let (index, _) = self.item(position)?;
            images.extend(self.options.images.of(&self.items[index]));
        }
        Ok(images)
    }

    /// The cache records of the given positions.
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

    /// Adds the records for the validation of `items`: the centre crops of all their images, not flipped, and their
    /// own prompts.
    pub fn plan_validation(&self, plan: &mut Plan, items: &[Item]) {
        for item in items {
            for image in &item.images {
                plan.view(View::center(image.clone()));
            }
            plan.prompt(&item.prompt);
        }
    }

    fn view(&self, item: &Item, k: usize, image: &ImageRef, d: u64) -> Result<View> {
        let crop = match self.options.crop {
            CropRule::Center => Crop::Center,
            CropRule::Random { crops } => Crop::At { index: self.draws.crop(d, k, &item.id, crops)?, count: crops },
        };
        let flip = self.draws.flip(d, k, &item.id, self.options.flip);
        Ok(View { image: image.clone(), flip, crop })
    }

    fn prompt<'a>(&self, item: &'a Item, d: u64) -> &'a str {
        if self.draws.dropout(d, &item.id, self.options.prompt_dropout) { "" } else { &item.prompt }
    }

    /// Draws the items at some positions: a micro-batch. The result depends neither on which positions are drawn
    /// together nor on repetition.
    ///
    /// # Errors
    /// A view or prompt that was not planned, a cache record damaged since.
    pub fn batch(&self, positions: Range<u64>, latents: &LatentCache, texts: &TextCache) -> Result<Drawn> {
        let (mut left_out, mut drafts) = (Vec::new(), Vec::new());
        for position in positions {
            let (index, pass) = self.item(position)?;
            match self.draw(index, self.draws.draw_of_epoch(pass), self.block(position)?, latents)? {
                Some(draft) => drafts.push(draft),
                None => left_out.push(self.items[index].id.clone()),
            }
        }
        let batch = if drafts.is_empty() { None } else { Some(self.assemble(drafts, texts)?) };
        Ok(Drawn { batch, left_out })
    }

    /// The block of a position and its noise level: that of its first item, readable or not. `None` without blocks.
    fn block(&self, position: u64) -> Result<Option<(u64, f64)>> {
        let Some(size) = self.options.block else { return Ok(None) };
        let (index, pass) = self.item(position / size * size)?;
        let d = self.draws.draw_of_epoch(pass);
        Ok(Some((position / size, self.draws.level(d, &self.items[index].id, &self.options.timesteps)?)))
    }

    /// An item with the rows of its images in order; `None` if one of them is unusable.
    fn draw(&self, index: usize, d: u64, block: Option<(u64, f64)>, latents: &LatentCache) -> Result<Option<Drafted>> {
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
        let (block, level) = match block {
            Some(shared) => shared,
            None => (0, self.draws.level(d, &item.id, &self.options.timesteps)?),
        };
        let weight = self.factors.as_ref().and_then(|factors| factors.get(index)).copied();
        let prompt = self.prompt(item, d).to_string();
        Ok(Some(Drafted { item: BatchItem { block, ..self.described(item, level, d, weight) }, prompt, rows }))
    }

    fn row(&self, raw: &Tensor, moments: &Moments, noise: Tensor) -> Row {
        Row { latents: (raw - self.options.shift_factor) * self.options.scaling_factor, noise, sizes: moments.time_ids }
    }

    /// The batch's entry of an item, before its rows are numbered.
    fn described(&self, item: &Item, level: f64, draw: u64, weight: Option<f64>) -> BatchItem {
        BatchItem {
            id: item.id.clone(),
            prompt: item.prompt.clone(),
            level,
            draw,
            block: 0,
            rows: Vec::new(),
            preference: item.preference.clone(),
            weight,
            scores: self.options.scorer.as_ref().and_then(|scorer| item.scores.get(scorer)).cloned(),
        }
    }

    /// All draws of one validation item, each an item of the batch with rows for all its images, whatever the method
    /// trains. Equal in every run: posterior mean, centre crop, no flip, no dropout, no weights; noise and timesteps
    /// do not depend on the seed. `None` if an image is unusable.
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
            // Draws of equal number have equal levels.
            let described = BatchItem { block: j, ..self.described(item, self.draws.val_level(j, draws), j, None) };
            Drafted { item: described, prompt: item.prompt.clone(), rows }
        };
        self.assemble((0..draws).map(drafted).collect(), texts).map(Some)
    }

    /// Numbers the rows of items and concatenates them, first images first.
    fn assemble(&self, mut drafts: Vec<Drafted>, texts: &TextCache) -> Result<Batch> {
        let most = drafts.iter().map(|draft| draft.rows.len()).max().unwrap_or(0);
        let (mut rows, mut prompts, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        for k in 0..most {
            for draft in drafts.iter_mut().filter(|draft| k < draft.rows.len()) {
                draft.item.rows.push(levels.len() as i64);
                levels.push(draft.item.level);
            }
        }
        for k in 0..most {
            for (draft, row) in drafts.iter().filter_map(|draft| Some((draft, draft.rows.get(k)?))) {
                rows.push(row);
                prompts.push(draft.prompt.as_str());
            }
        }
        let stack = |part: fn(&Row) -> &Tensor| Tensor::f_stack(&rows.iter().map(|r| part(r)).collect::<Vec<_>>(), 0);
        let conditioning = texts.conditioning(&prompts)?;
        let conditioning = match self.options.time_ids {
            Some(rule) => conditioning.with_sizes(&self.sizes(rule, &rows)),
            None => conditioning,
        };
        Ok(Batch {
            latents: stack(|r| &r.latents)?,
            noise: stack(|r| &r.noise)?,
            levels: Levels::new(&levels),
            conditioning,
            items: drafts.into_iter().map(|draft| draft.item).collect(),
        })
    }

    fn sizes(&self, rule: TimeIds, rows: &[&Row]) -> Vec<PictureSizes> {
        let r = i64::from(self.options.resolution);
        let of_row = |row: &&Row| match rule {
            TimeIds::TrueSizes => row.sizes,
            TimeIds::Constant => [r, r, 0, 0, r, r],
        };
        rows.iter().map(of_row).collect()
    }
}
