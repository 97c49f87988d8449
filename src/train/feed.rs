//! Input of a run: encoded once before training, then drawn micro-batch by micro-batch.

use super::environment::DataHash;
use super::opened::Opened;
use super::prompt_batches::PromptBatches;
use crate::data::batches::{Batch, BatchOptions, Batches, CropRule, Drawn, Images, Plan, Posterior};
use crate::data::cache::LatentCache;
use crate::data::draws::Draws;
use crate::data::encoding::{Encoded, Encoding};
use crate::data::items::{Item, data_sha256};
use crate::data::report::DataReport;
use crate::data::text_cache::TextCache;
use crate::data::unreadable::Unreadable;
use crate::machine::hashes::HashMemory;
use crate::networks::Machine;
use crate::objectives::Needs;
use crate::progress::{Progress, Stop};
use crate::rollout::Prompts;
use crate::settings::{Items, Settings, Source};
use anyhow::{Result, anyhow};
use pipelines::families::ModelFolder;
use pipelines::lora::{Lora, Network};
use pipelines::{Conditioning, LevelRange};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

/// One validation item with all its draws, each an item of the batch.
pub struct ValidationItem {
    pub prompt: String,
    pub batch: Batch,
}

/// Batches of a run, the caches behind them, and unreadable items.
pub struct Feed {
    batches: Batches,
    /// Prompts without pictures.
    prompts: Option<PromptBatches>,
    latents: LatentCache,
    texts: TextCache,
    index_sha256: String,
    empty_side: Conditioning,
    validation: Vec<Item>,
    validation_draws: u64,
    micro_batch: u64,
    grad_accum: u64,
    range: LevelRange,
    left_out: RefCell<BTreeSet<String>>,
    /// A step, and the seconds spent on its micro-batches.
    waited: Cell<(u64, f64)>,
}

impl Feed {
    /// Plans the input of all steps of the run and of the validation, encodes what the cache lacks, and writes
    /// data-report.json. A resumed run plans from the start too: its report and hashes cover the whole run.
    pub fn open(opened: &Opened, machine: Machine, run: &Path, progress: &dyn Progress, stop: &Stop) -> Result<Self> {
        let Opened { config, folder, items, .. } = opened;
        let mut report = DataReport::new(items);
        let range = folder.process().range();
        let draws = Draws { seed: config.train.seed, draws_per_pair: config.data.draws_per_pair(), range };
        let mut validation = items.validation.clone();
        validation.truncate(config.validate.as_ref().map_or(0, |validate| validate.max_pairs()));
        let needs = &config.method.needs;
        let options = batch_options(config, folder, needs);
        let batches = Batches::new(items.train.clone(), draws, options.clone())?;
        let mut plan = batches.plan(0..positions(&batches, config.train.steps, config))?;
        let validated: &[Item] = if config.validates_every() > 0 { &validation } else { &[] };
        batches.plan_validation(&mut plan, validated);
        plan.prompt("");
        opened.prompts.iter().chain(&opened.held_out).for_each(|prompt| plan.prompt(prompt));
        for prompt in config.sample.prompts.iter().filter(|_| config.sample.every > 0) {
            plan.prompt(prompt);
        }
        let Encoded { latents, texts, empty_side, .. } =
            encode(config, folder, machine, &options, &plan, progress, stop)?;
        let trained = plan.train.iter().map(|i| &batches.items()[*i]).map(|item| (item, options.images.of(item)));
        let validated = validated.iter().map(|item| (item, item.images.as_slice()));
        let read: Vec<_> = trained.chain(validated).map(|(item, images)| (item.id.as_str(), images)).collect();
        report.add_images(&read, latents.unreadable());
        report.add_small(&read, latents.small());
        report.add_prompts(&plan.prompts, &folder.tokenizers()?)?;
        report.write(&run.join("data-report.json"))?;
        report.check(config.data.max_bad_fraction())?;
        report.notes().iter().for_each(|note| progress.line(&format!("note: {note}")));
        let prompts = (Source::of(needs) == Source::TruncatedNoise).then(|| PromptBatches {
            prompts: opened.prompts.clone(),
            draws,
            shape: options.latent_shape,
            told_size: folder.family().tells_sizes().then_some(config.data.resolution),
        });
        Ok(Self {
            batches,
            prompts,
            latents,
            texts,
            index_sha256: items.index_sha256.clone(),
            empty_side,
            validation,
            validation_draws: config.validate.as_ref().map_or(1, |validate| validate.draws),
            micro_batch: config.train.micro_batch,
            grad_accum: config.train.grad_accum,
            range,
            left_out: RefCell::default(),
            waited: Cell::new((0, 0.0)),
        })
    }

    /// Training items of an epoch.
    pub fn train_len(&self) -> usize {
        self.prompts.as_ref().map_or(self.batches.len(), |prompts| prompts.prompts.len())
    }

    pub fn validation_len(&self) -> usize {
        self.validation.len()
    }

    /// Noise levels of the model's process.
    pub fn range(&self) -> LevelRange {
        self.range
    }

    /// The micro-batches of step `s` (from 1) that are in `share`, by their number in the step; `None` for one
    /// without a readable item. Equal on every call.
    pub fn micro_batches(&self, s: u64, share: Range<u64>) -> impl Iterator<Item = Result<Option<Batch>>> + '_ {
        let first = (s - 1) * self.grad_accum * self.micro_batch;
        if self.waited.get().0 != s {
            self.waited.set((s, 0.0));
        }
        share.map(move |i| {
            let began = Instant::now();
            let drawn = self.drawn(first + i * self.micro_batch)?;
            self.left_out.borrow_mut().extend(drawn.left_out);
            self.waited.set((s, self.waited.get().1 + began.elapsed().as_secs_f64()));
            Ok(drawn.batch)
        })
    }

    /// [`micro_batches`](Self::micro_batches) of a step that is not taken yet: nothing is counted.
    pub fn planned(&self, s: u64, share: Range<u64>) -> impl Iterator<Item = Result<Option<Batch>>> + '_ {
        let first = (s - 1) * self.grad_accum * self.micro_batch;
        share.map(move |i| Ok(self.drawn(first + i * self.micro_batch)?.batch))
    }

    /// The micro-batch that begins at a position.
    fn drawn(&self, start: u64) -> Result<Drawn> {
        let positions = start..start + self.micro_batch;
        match &self.prompts {
            Some(prompts) => Ok(Drawn { batch: Some(prompts.batch(positions, &self.texts)?), left_out: Vec::new() }),
            None => self.batches.batch(positions, &self.latents, &self.texts),
        }
    }

    /// Seconds spent on drawing the micro-batches of the last step.
    pub fn waited(&self) -> f64 {
        self.waited.get().1
    }

    /// Ids of items left out so far.
    pub fn unreadable(&self) -> Vec<String> {
        self.left_out.borrow().iter().cloned().collect()
    }

    /// Adds the left-out items of a checkpoint.
    pub fn left_out(&mut self, ids: Vec<String>) {
        self.left_out.borrow_mut().extend(ids);
    }

    /// Hash of the data read by steps 1 to `steps`, and by the validation if `validated`. Missing images count as
    /// absent.
    pub fn data_hash(&self, config: &Settings, steps: u64, validated: bool) -> Result<DataHash> {
        let mut images = self.batches.images(positions(&self.batches, steps, config))?;
        if validated {
            images.extend(self.validation.iter().flat_map(|item| &item.images));
        }
        let mut memory = HashMemory::open(&config.data.cache_dir);
        let read = images.into_iter().map(|image| match image.sha256(&mut memory) {
            Ok(hash) => Ok(Some(hash)),
            Err(Unreadable::Missing | Unreadable::Empty) => Ok(None),
            Err(reason) => Err(anyhow!("{image}: {reason}")),
        });
        let hashes: Result<Vec<Option<String>>> = read.collect();
        memory.save();
        let sha256 = data_sha256(&self.index_sha256, hashes?.iter().flatten().map(String::as_str));
        Ok(DataHash { sha256, steps, validated })
    }

    /// The readable validation items in data order, each with all its draws.
    pub fn validation(&self) -> impl Iterator<Item = Result<ValidationItem>> + '_ {
        self.validation.iter().filter_map(|pair| {
            let batch = self.batches.validation_batch(pair, self.validation_draws, &self.latents, &self.texts);
            let whole = |batch| ValidationItem { prompt: pair.prompt.clone(), batch };
            batch.map(|b| b.map(whole)).transpose()
        })
    }

    /// One row for the side of guidance without a prompt, as in the model's pipeline.
    pub fn empty_side(&self) -> Conditioning {
        self.empty_side.shallow_clone()
    }
}

impl Prompts for Feed {
    fn conditioning(&self, prompts: &[&str]) -> Result<Conditioning> {
        self.texts.conditioning(prompts)
    }
}

/// Number of positions of some steps; none without items.
fn positions(batches: &Batches, steps: u64, config: &Settings) -> u64 {
    if batches.is_empty() { 0 } else { steps * config.train.pairs_per_step() }
}

fn batch_options(config: &Settings, folder: &ModelFolder, needs: &Needs) -> BatchOptions {
    let (data, items) = (&config.data, config.data.items.as_ref());
    let latent = folder.latent();
    BatchOptions {
        posterior: items.map_or(Posterior::Mean, |items| items.posterior),
        crop: items.map_or(CropRule::Center, Items::crop_rule),
        flip: items.map_or(0.0, |items| items.flip),
        prompt_dropout: needs.prompt_dropout,
        scaling_factor: latent.scale,
        shift_factor: latent.shift,
        resolution: data.resolution as u32,
        latent_shape: latent.shape(data.resolution, data.resolution),
        time_ids: config.model.time_ids,
        images: if needs.loser { Images::All } else { Images::First },
        noise: needs.noise,
        timesteps: config.law(folder.process().range()),
        scorer: needs.scorer().map(String::from),
        weighting: config.weighting(),
        desirable_share: needs.desirable_share,
        block: needs.whole_step.and_then(|step| step.block),
    }
}

/// Fills both caches. Encoders run in float32, whatever the run's compute type, so that runs share records.
fn encode(
    config: &Settings,
    folder: &ModelFolder,
    machine: Machine,
    options: &BatchOptions,
    plan: &Plan,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Encoded> {
    let init = config.lora.as_ref().and_then(|lora| lora.init.as_ref());
    let lora = init.map(|path| text_lora(path, folder)).transpose()?.unwrap_or_default();
    let encoding = Encoding {
        folder,
        vae: config.model.vae.as_deref(),
        text_lora: &lora,
        text_lora_files: init.iter().map(|path| (path.to_path_buf(), 1.0)).collect(),
        clip_skip: config.model.clip_skip,
        device: machine.device,
        cache_dir: &config.data.cache_dir,
        dtype: config.data.cache_dtype,
        min_size: config.data.items.as_ref().map_or(0, |items| items.min_size),
        workers: config.data.workers,
        resolution: options.resolution,
        latent_shape: options.latent_shape,
    };
    encoding.fill(plan, progress, stop)
}

/// The text encoder part of `lora.init`; empty if it has none.
fn text_lora(path: &Path, folder: &ModelFolder) -> Result<Lora> {
    let mut lora = Lora::read(path, &folder.lora_targets())?;
    lora.take(Network::Unet);
    Ok(lora)
}
