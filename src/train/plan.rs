//! `--dry-run`: the plan of a run, after all checks that need no training.

use super::environment::Contents;
use super::forecast;
use super::opened::Opened;
use super::resident::Resident;
use crate::data::batches::{Batch, Images};
use crate::data::items::{ImageRef, ItemKind};
use crate::data::report::DataReport;
use crate::data::unreadable::Unreadable;
use crate::ledger;
use crate::networks::{self, Machine, Networks};
use crate::optimizer;
use crate::rollout::Rollout;
use crate::run_folder;
use crate::settings::Buffer;
use anyhow::{Context, Result};
use pipelines::families::ModelFolder;
use pipelines::{Conditioning, Dtype, Levels};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// The plan of a run.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub method: String,
    /// Unit of train_pairs, validation_pairs and pairs_per_step.
    pub items: ItemKind,
    pub model: String,
    pub family: &'static str,
    pub out: String,
    /// A start then requires --resume or train.overwrite.
    pub holds_a_run: bool,
    pub device: String,
    pub dtype: Dtype,
    pub resolution: i64,
    pub train_pairs: usize,
    pub validation_pairs: usize,
    pub missing_images: usize,
    /// Prompts longer than the text encoder reads.
    pub prompts_cut: usize,
    /// Notes about the rows, for the user.
    pub notes: Vec<String>,
    pub steps: u64,
    pub pairs_per_step: u64,
    pub epochs: f64,
    pub parameters: u64,
    pub trained_parameters: u64,
    /// Whether errors of the reference are stored, and why not.
    pub ledger: String,
    pub weights_mib: f64,
    pub reference_mib: f64,
    /// The optimizer's state, gradients and EMA.
    pub optimizer_mib: f64,
    /// One prediction of a micro-batch, without gradients.
    pub seconds_per_forward: f64,
    /// State of a method that samples while it trains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutPlan>,
}

/// Cost and size of an iteration.
#[derive(Debug, Serialize)]
pub struct RolloutPlan {
    pub prompts: usize,
    pub prompts_per_iteration: usize,
    /// Per prompt.
    pub trajectories: usize,
    /// Largest number of network evaluations to sample an iteration.
    pub evaluations: u64,
    /// Largest size of the buffer.
    pub buffer_mib: f64,
    pub buffer: Buffer,
    /// Prompts of [validate].
    pub held_out: usize,
}

const MIB: f64 = (1 << 20) as f64;

/// Loads the networks, runs one micro-batch of zeros through them, counts. Writes nothing.
pub fn dry_run(opened: &Opened) -> Result<Plan> {
    let config = &opened.config;
    let machine = Machine::of(config)?;
    let needs = &config.method.needs;
    let networks = networks::load(config, &opened.folder, machine, needs.reference && !opened.ledger_first, None)?;
    let images = if needs.loser { Images::All } else { Images::First };
    // Lists may differ in length: the longest ones give the largest micro-batch.
    let most = opened.items.train.iter().map(|item| images.of(item).len()).max().unwrap_or(1);
    let rollout = match needs.rollouts {
        Some(needs) => {
            let setup = opened.setup(machine);
            let rewards = Resident::default().rewards(&setup, &Contents::new())?;
            Some(Rollout::open(&setup, needs, rewards, &config.train.out)?)
        }
        None => None,
    };
    // A pair of transitions has two states, each evaluated with and without its prompt.
    let guided = if rollout.is_some() { 4 } else { 1 };
    let rows = (most * guided) as i64 * config.train.micro_batch as i64;
    let seconds = try_forward(opened, &networks, rows).context("a trial batch does not pass the network")?;
    let _ = opened.folder.load_vae(config.model.vae.as_deref(), &machine.frozen())?;
    let policy = &networks.policy;
    let all = policy.denoiser.network.named_parameters();
    let trained = mib(&policy.trainable);
    let n = opened.items.train.len();
    let report = data_report(opened, images)?;
    let state = optimizer::state_bytes(&policy.trainable, &config.optim) as f64 / MIB;
    Ok(Plan {
        method: config.method.name().into(),
        items: needs.items,
        model: config.model.path.display().to_string(),
        family: opened.folder.family().name(),
        out: config.train.out.display().to_string(),
        holds_a_run: run_folder::holds_steps(&config.train.out),
        device: config.model.device.to_string(),
        dtype: config.model.dtype,
        resolution: config.data.resolution,
        train_pairs: n,
        validation_pairs: opened.items.validation.len(),
        missing_images: report.bad_images.len(),
        prompts_cut: report.prompts_cut,
        notes: report.notes_of_rows(),
        steps: config.train.steps,
        pairs_per_step: config.train.pairs_per_step(),
        epochs: (config.train.steps * config.train.pairs_per_step()) as f64 / n.max(1) as f64,
        parameters: all.iter().map(|(_, t)| t.numel() as u64).sum(),
        trained_parameters: policy.trainable.iter().map(|(_, t)| t.numel() as u64).sum(),
        ledger: ledger(opened),
        weights_mib: mib(&all),
        reference_mib: reference_mib(&networks),
        optimizer_mib: trained * if config.ema.decay > 0.0 { 2.0 } else { 1.0 } + state,
        seconds_per_forward: seconds,
        rollout: rollout.map(|rollout| RolloutPlan {
            prompts: opened.prompts.len(),
            prompts_per_iteration: rollout.course().grid().prompts,
            trajectories: rollout.course().grid().per_prompt,
            evaluations: rollout.course().evaluations(),
            buffer_mib: rollout.course().buffer_bytes() as f64 / MIB,
            buffer: rollout.course().config.buffer,
            held_out: opened.held_out.len(),
        }),
    })
}

/// The ledger in words.
fn ledger(opened: &Opened) -> String {
    let config = &opened.config;
    match (config.no_ledger(), config.stores_errors()) {
        (Some(why), _) => format!("off: {why}"),
        (None, false) => "off; reference.ledger = \"on\" would store errors of the reference".into(),
        (None, true) => {
            let first = if opened.ledger_first { ", filled before the first step" } else { "" };
            format!("on, in {}{first}", ledger::folder(&config.data.cache_dir).display())
        }
    }
}

/// Bytes of tensors of the reference alone.
fn reference_mib(networks: &Networks) -> f64 {
    let start = networks.start.as_ref().map_or(0.0, |start| mib(&start.own_tensors()));
    start + networks.moved.as_ref().map_or(0.0, |moved| mib(&moved.tensors))
}

fn mib(tensors: &[(String, Tensor)]) -> f64 {
    tensors.iter().map(|(_, t)| t.numel() as f64 * t.kind().elt_size_in_bytes() as f64).sum::<f64>() / MIB
}

/// Missing images, of which a share above `data.max_bad_fraction` would stop the run, and prompts that are cut.
fn data_report(opened: &Opened, images: Images) -> Result<DataReport> {
    let trained = opened.items.train.iter().map(|item| (item.id.as_str(), images.of(item)));
    let validated = opened.items.validation.iter().map(|item| (item.id.as_str(), item.images.as_slice()));
    let read: Vec<(&str, &[ImageRef])> = trained.chain(validated).collect();
    let missing: BTreeMap<ImageRef, String> = read
        .iter()
        .flat_map(|(_, images)| *images)
        .filter(|image| !image.exists())
        .map(|image| (image.clone(), Unreadable::Missing.to_string()))
        .collect();
    let mut report = DataReport::new(&opened.items);
    report.add_images(&read, &missing);
    report.check(opened.config.data.max_bad_fraction())?;
    let items = opened.items.train.iter().chain(&opened.items.validation).map(|item| &item.prompt);
    let prompts: BTreeSet<&String> = items.chain(&opened.prompts).chain(&opened.held_out).collect();
    report.add_prompts(prompts, &opened.folder.tokenizers()?)?;
    Ok(report)
}

/// Seconds of one prediction of `rows` rows of zeros.
fn try_forward(opened: &Opened, networks: &Networks, rows: i64) -> Result<f64> {
    let _frozen = tch::no_grad_guard();
    let config = &opened.config;
    let resolution = config.data.resolution;
    let [channels, height, width] = opened.folder.latent().shape(resolution, resolution);
    let latents = Tensor::zeros([rows, channels, height, width], (Kind::Float, Device::Cpu));
    let conditioning = empty_prompt(&opened.folder, networks.machine, config.model.clip_skip, rows)?;
    let batch = networks.noise(&Batch {
        items: Vec::new(),
        noise: latents.shallow_clone(),
        latents,
        levels: Levels::same(0.0, rows, Device::Cpu),
        conditioning: networks.conditioning(&conditioning, config.data.resolution),
    });
    let began = Instant::now();
    networks.residuals(&batch)?.double_value(&[0, 0, 0, 0]);
    Ok(began.elapsed().as_secs_f64())
}

fn empty_prompt(folder: &ModelFolder, machine: Machine, clip_skip: i64, rows: i64) -> Result<Conditioning> {
    let text = folder.load_text(&machine.frozen())?;
    let one = text.encode_prompts(&[""], clip_skip as usize, None)?;
    Ok(one.map(|t| {
        let mut shape = t.size();
        shape[0] = rows;
        t.expand(&shape, false)
    }))
}

impl Plan {
    /// The plan as text.
    pub fn text(&self) -> String {
        let (data, steps) = match &self.rollout {
            Some(rollout) => {
                (rollout.text(self.resolution), format!("{} of {} units", self.steps, self.pairs_per_step))
            }
            None => (self.data(), self.passes()),
        };
        let lines = [
            ("method", self.method.clone()),
            ("model", format!("{} ({})", self.model, self.family)),
            (
                "run folder",
                format!("{}{}", self.out, if self.holds_a_run { " (holds a run: continue with --resume)" } else { "" }),
            ),
            ("machine", format!("{}, {}", self.device, self.dtype)),
            (if self.rollout.is_some() { "iteration" } else { "data" }, data),
            ("steps", steps),
            ("parameters", format!("{} trained of {}", self.trained_parameters, self.parameters)),
            (
                "memory",
                format!(
                    "weights {:.1} MiB, reference {:.1} MiB, optimizer, gradients and EMA {:.1} MiB, and activations",
                    self.weights_mib, self.reference_mib, self.optimizer_mib
                ),
            ),
            ("ledger", self.ledger.clone()),
            ("forward", format!("{} a micro-batch without gradients", seconds(self.seconds_per_forward))),
        ];
        let notes = self.notes.iter().map(|note| ("note", note));
        let lines = lines.iter().map(|(name, value)| (*name, value)).chain(notes);
        lines.map(|(name, value)| format!("{name:11} {value}\n")).collect()
    }

    fn data(&self) -> String {
        format!(
            "{} training {}, {} held out, {} images missing, {}{} px",
            self.train_pairs,
            self.items.noun(),
            self.validation_pairs,
            self.missing_images,
            if self.prompts_cut > 0 { format!("{} prompts cut, ", self.prompts_cut) } else { String::new() },
            self.resolution
        )
    }

    fn passes(&self) -> String {
        format!("{} of {} {} = {:.2} epochs", self.steps, self.pairs_per_step, self.items.noun(), self.epochs)
    }
}

impl RolloutPlan {
    fn text(&self, resolution: i64) -> String {
        format!(
            "{} trajectories of each of {} prompts (of {}), {resolution} px: up to {} network evaluations, {:.1} MiB kept ({}), {} prompts held out",
            self.trajectories,
            self.prompts_per_iteration,
            self.prompts,
            self.evaluations,
            self.buffer_mib,
            self.buffer,
            self.held_out
        )
    }
}

fn seconds(s: f64) -> String {
    if s < 10.0 { format!("{s:.3} s") } else { forecast::duration(s) }
}
