//! From a position of the run to tensors: which pair it is, what is drawn for it, and what the cache must hold.
//!
//! Position p of the endless order is item `order(epoch)[p mod n]` of epoch `p / n`. A missing image renumbers nothing:
//! its pair keeps its position and is left out of the batch.

use super::cache::{LatentCache, Moments};
use super::draws::{Draws, Side};
use super::pairs::Pair;
use super::text_cache::TextCache;
use super::transforms::{Crop, View};
use anyhow::{Context, Result, ensure};
use pipelines::models::Conditioning;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// `[data] posterior`: how latents come from the VAE's mean and std.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Posterior {
    #[default]
    Sample,
    Mean,
}

/// `[data] crop`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CropRule {
    #[default]
    Center,
    /// One of `crops` (at least 2) evenly spaced crops, drawn for each image.
    Random { crops: i64 },
}

/// `[model] time_ids` of families that take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeIds {
    /// The file's own size and the crop that was taken.
    TrueSizes,
    /// R, R, 0, 0, R, R for every image, as the public SDXL training code has it.
    Constant,
}

/// How pairs become tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchOptions {
    pub posterior: Posterior,
    pub crop: CropRule,
    /// Probability of a horizontal flip, for each image.
    pub flip: f64,
    /// Probability of the empty prompt, for each pair.
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
    /// False where only winners are trained: then a batch has rows for them alone, and losers are not encoded.
    pub losers: bool,
}

/// Pairs as the networks get them: B pairs, rows 0..B their winners, rows B..2B their losers (absent without losers).
#[derive(Debug)]
pub struct PairBatch {
    pub ids: Vec<String>,
    /// `[2B, C, h, w]` float32, scaled
    pub latents: Tensor,
    /// `[2B, C, h, w]` float32, the same for both images of a pair
    pub noise: Tensor,
    /// `[2B]` int64, the same for both images of a pair
    pub timesteps: Tensor,
    /// `[2B, ..]` float32
    pub conditioning: Conditioning,
}

/// A batch, and what is missing from it.
#[derive(Debug)]
pub struct Drawn {
    /// None when no pair is left.
    pub batch: Option<PairBatch>,
    /// Ids of pairs that were left out because an image cannot be used.
    pub left_out: Vec<String>,
}

/// What the cache must hold before some positions can be drawn.
#[derive(Debug, Default)]
pub struct Plan {
    /// Distinct views in the order in which they are read.
    pub views: Vec<View>,
    /// Distinct prompts in the order in which they are read.
    pub prompts: Vec<String>,
    /// Indices of the training pairs that are read.
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

/// The training pairs of a run, ready to be drawn from.
pub struct Batches {
    pairs: Vec<Pair>,
    draws: Draws,
    options: BatchOptions,
    /// Orders of the last epochs that were asked for: a step may cross from one into the next.
    orders: RefCell<BTreeMap<u64, Vec<i64>>>,
}

/// What one row of a batch is made of.
struct Row {
    latents: Tensor,
    noise: Tensor,
    timestep: i64,
    prompt: String,
    time_ids: [i64; 6],
}

impl Batches {
    pub fn new(pairs: Vec<Pair>, draws: Draws, options: BatchOptions) -> Result<Self> {
        ensure!(!pairs.is_empty(), "there are no pairs to train on");
        Ok(Self { pairs, draws, options, orders: RefCell::default() })
    }

    /// n: items of an epoch.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Index of the pair at a position, and the epoch of that position.
    pub fn item(&self, position: u64) -> Result<(usize, u64)> {
        let n = self.pairs.len() as u64;
        let (epoch, place) = (position / n, (position % n) as usize);
        let mut orders = self.orders.borrow_mut();
        if !orders.contains_key(&epoch) {
            if orders.len() >= 2 {
                orders.pop_first();
            }
            orders.insert(epoch, self.draws.order(epoch, self.pairs.len())?);
        }
        let index = orders.get(&epoch).and_then(|order| order.get(place)).context("an order without this place")?;
        Ok((usize::try_from(*index)?, epoch))
    }

    /// The images that the first `positions` positions read, without drawing anything: an epoch reads them all.
    pub fn images(&self, positions: u64) -> Result<BTreeSet<&PathBuf>> {
        let mut images = BTreeSet::new();
        for position in 0..positions.min(self.pairs.len() as u64) {
            let (index, _) = self.item(position)?;
            images.extend(self.sides().iter().map(|side| image(&self.pairs[index], *side)));
        }
        Ok(images)
    }

    /// Everything that the given positions read.
    pub fn plan(&self, positions: Range<u64>) -> Result<Plan> {
        let mut plan = Plan::default();
        for position in positions {
            let (index, epoch) = self.item(position)?;
            let (pair, d) = (&self.pairs[index], self.draws.draw_of_epoch(epoch));
            plan.train.insert(index);
            for side in self.sides() {
                plan.view(self.view(pair, *side, d)?);
            }
            plan.prompt(self.prompt(pair, d));
        }
        Ok(plan)
    }

    /// Adds what the validation of `pairs` reads: the centres of both images, not flipped, and their own prompts.
    pub fn plan_validation(&self, plan: &mut Plan, pairs: &[Pair]) {
        for pair in pairs {
            plan.view(View::center(pair.winner.clone()));
            plan.view(View::center(pair.loser.clone()));
            plan.prompt(&pair.prompt);
        }
    }

    fn sides(&self) -> &'static [Side] {
        if self.options.losers { &[Side::Winner, Side::Loser] } else { &[Side::Winner] }
    }

    fn view(&self, pair: &Pair, side: Side, d: u64) -> Result<View> {
        let crop = match self.options.crop {
            CropRule::Center => Crop::Center,
            CropRule::Random { crops } => Crop::At { index: self.draws.crop(d, side, &pair.id, crops)?, count: crops },
        };
        let flip = self.draws.flip(d, side, &pair.id, self.options.flip);
        Ok(View { image: image(pair, side).clone(), flip, crop })
    }

    fn prompt<'a>(&self, pair: &'a Pair, d: u64) -> &'a str {
        if self.draws.dropout(d, &pair.id, self.options.prompt_dropout) { "" } else { &pair.prompt }
    }

    /// Draws the pairs at some positions: a micro-batch. Nothing depends on which positions come together.
    ///
    /// # Errors
    /// A view or prompt that was not planned, a cache record damaged since.
    pub fn batch(&self, positions: Range<u64>, latents: &LatentCache, texts: &TextCache) -> Result<Drawn> {
        let (mut ids, mut left_out, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for position in positions {
            let (index, epoch) = self.item(position)?;
            let pair = &self.pairs[index];
            match self.draw(pair, self.draws.draw_of_epoch(epoch), latents)? {
                Some(drawn) => {
                    ids.push(pair.id.clone());
                    rows.push(drawn);
                }
                None => left_out.push(pair.id.clone()),
            }
        }
        let batch = if ids.is_empty() { None } else { Some(self.assemble(ids, rows, texts)?) };
        Ok(Drawn { batch, left_out })
    }

    /// The rows of a pair, winner first; None when one of its images cannot be used.
    fn draw(&self, pair: &Pair, d: u64, latents: &LatentCache) -> Result<Option<Vec<Row>>> {
        let shape = &self.options.latent_shape;
        let noise = self.draws.noise(d, &pair.id, shape);
        let timestep = self.draws.timestep(d, &pair.id)?;
        let mut rows = Vec::new();
        for side in self.sides() {
            let Some(moments) = latents.moments(&self.view(pair, *side, d)?)? else { return Ok(None) };
            let raw = match self.options.posterior {
                Posterior::Sample => &moments.mean + &moments.std * self.draws.vae(d, *side, &pair.id, shape),
                Posterior::Mean => moments.mean.shallow_clone(),
            };
            rows.push(self.row(&raw, &moments, &noise, timestep, self.prompt(pair, d)));
        }
        Ok(Some(rows))
    }

    fn row(&self, raw: &Tensor, moments: &Moments, noise: &Tensor, timestep: i64, prompt: &str) -> Row {
        Row {
            latents: (raw - self.options.shift_factor) * self.options.scaling_factor,
            noise: noise.shallow_clone(),
            timestep,
            prompt: prompt.to_string(),
            time_ids: moments.time_ids,
        }
    }

    /// All draws of one validation pair: rows 0..draws its winner, draws..2 draws its loser, whatever the method
    /// trains. The same in every run: posterior mean, centre crop, no flip, no dropout, noise and timesteps that do
    /// not depend on the seed. None when an image cannot be used.
    pub fn validation_batch(
        &self,
        pair: &Pair,
        draws: u64,
        latents: &LatentCache,
        texts: &TextCache,
    ) -> Result<Option<PairBatch>> {
        let winner = latents.moments(&View::center(pair.winner.clone()))?;
        let loser = latents.moments(&View::center(pair.loser.clone()))?;
        let (Some(winner), Some(loser)) = (winner, loser) else { return Ok(None) };
        let drawn = |j: u64| {
            let noise = self.draws.val_noise(j, &pair.id, &self.options.latent_shape);
            let t = self.draws.val_timestep(j, draws);
            [&winner, &loser].map(|m| self.row(&m.mean, m, &noise, t, &pair.prompt)).into()
        };
        let rows = (0..draws).map(drawn).collect();
        self.assemble(vec![pair.id.clone(); draws as usize], rows, texts).map(Some)
    }

    /// Puts the rows of pairs together, winners first.
    fn assemble(&self, ids: Vec<String>, pairs: Vec<Vec<Row>>, texts: &TextCache) -> Result<PairBatch> {
        let sides = pairs.first().map_or(0, Vec::len);
        let rows: Vec<&Row> = (0..sides).flat_map(|side| pairs.iter().filter_map(move |rows| rows.get(side))).collect();
        let stack = |part: fn(&Row) -> &Tensor| Tensor::f_stack(&rows.iter().map(|r| part(r)).collect::<Vec<_>>(), 0);
        let prompts: Vec<&str> = rows.iter().map(|r| r.prompt.as_str()).collect();
        let mut conditioning = texts.conditioning(&prompts)?;
        conditioning.time_ids = self.options.time_ids.map(|rule| self.time_ids(rule, &rows));
        Ok(PairBatch {
            latents: stack(|r| &r.latents)?,
            noise: stack(|r| &r.noise)?,
            timesteps: Tensor::from_slice(&rows.iter().map(|r| r.timestep).collect::<Vec<_>>()),
            conditioning,
            ids,
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

fn image(pair: &Pair, side: Side) -> &PathBuf {
    match side {
        Side::Winner => &pair.winner,
        Side::Loser => &pair.loser,
    }
}
