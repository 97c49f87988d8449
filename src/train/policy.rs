//! The network that is trained, the network it is compared with, and their errors.

use super::reference::{Comparison, Moving, Reference};
use crate::data::draws::Draws;
use crate::settings::{Config, ConfigError};
use anyhow::{Context, Result, bail};
use pipelines::families::{Denoiser, ModelFolder};
use pipelines::lora::{Lora, LoraWeights, Network};
use pipelines::models::{AdapterSet, Conditioning, Recompute};
use pipelines::weights::LoadOptions;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Where and in what numbers the run computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    pub device: Device,
    /// Of the networks' arithmetic.
    pub compute: Kind,
    /// Of trained weights, errors and the objective: float32, or float64 where everything is.
    pub master: Kind,
}

impl Machine {
    /// Reads `model.device` and `model.dtype` of a resolved configuration.
    pub fn of(config: &Config) -> Result<Self> {
        let device = device(&config.model.device)?;
        let (compute, master) = match config.model.dtype.as_str() {
            "float64" => (Kind::Double, Kind::Double),
            "bfloat16" => (Kind::BFloat16, Kind::Float),
            _ => (Kind::Float, Kind::Float),
        };
        Ok(Self { device, compute, master })
    }

    /// How frozen weights are held.
    pub fn frozen(&self) -> LoadOptions {
        LoadOptions { device: self.device, kind: self.compute }
    }

    fn trained(&self) -> LoadOptions {
        LoadOptions { device: self.device, kind: self.master }
    }
}

/// `cpu`, `cuda` or `cuda:N`.
pub fn device(text: &str) -> Result<Device> {
    let index = match text {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok()),
    };
    let count = tch::Cuda::device_count().max(0) as usize;
    let wrong = |text: String| ConfigError(text).into();
    match index {
        Some(i) if i < count => Ok(Device::Cuda(i)),
        Some(_) if count == 0 => Err(wrong(format!(
            "model.device = \"{text}\": no CUDA device was found. `diffpref doctor` says what is there; take \"cpu\"."
        ))),
        Some(_) => Err(wrong(format!("model.device = \"{text}\": expected one of the {count} CUDA devices found."))),
        None => Err(wrong(format!("model.device = \"{text}\": expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"."))),
    }
}

/// The network that is trained: a full UNet, or a frozen one with LoRA adapters.
pub struct Policy {
    pub denoiser: Denoiser,
    /// The adapters that forward takes; `None` in a full fine-tune.
    pub adapters: Option<AdapterSet>,
    pub lora: Option<LoraWeights>,
    /// What `lora.init` has for the text encoders: worn while prompts are encoded, not trained, and part of every LoRA
    /// that the run writes.
    pub text_lora: Lora,
    /// Trained tensors by their names in the file, sorted: leaves that the optimizer changes in place.
    pub trainable: Vec<(String, Tensor)>,
}

/// Loads policy and reference as the configuration asks. `needs_reference`: whether training compares with one.
pub fn load(
    config: &Config,
    folder: &ModelFolder,
    machine: Machine,
    needs_reference: bool,
) -> Result<(Policy, Reference)> {
    let (mut policy, reference) = match &config.lora {
        Some(lora) => load_lora(config, lora, folder, machine)?,
        None => load_full(config, folder, machine, needs_reference)?,
    };
    let choice = &config.train.gradient_checkpointing;
    let recompute = Recompute::named(choice).ok_or_else(|| {
        ConfigError(format!("train.gradient_checkpointing = \"{choice}\": no such choice. Take \"none\"."))
    })?;
    policy.denoiser.unet.set_recompute(recompute);
    Ok((policy, reference))
}

fn load_full(
    config: &Config,
    folder: &ModelFolder,
    machine: Machine,
    needs_reference: bool,
) -> Result<(Policy, Reference)> {
    let unet_dir = config.model.unet.as_deref();
    let denoiser = folder.load_denoiser(unet_dir, &machine.trained())?;
    let trainable = denoiser.unet.named_parameters();
    require_grad(&trainable);
    let frozen = || folder.load_denoiser(unet_dir, &machine.frozen());
    let start = match needs_reference {
        true => Comparison::Own(Box::new(frozen()?)),
        false => Comparison::Absent,
    };
    let moving = match config.reference.as_ref().filter(|r| r.moves()) {
        Some(moves) => {
            let copy = frozen()?;
            let tensors = copy.unet.named_parameters();
            Some(Moving::new(moves, Comparison::Own(Box::new(copy)), tensors))
        }
        None => None,
    };
    let policy = Policy { denoiser, adapters: None, lora: None, text_lora: Lora::default(), trainable };
    Ok((policy, Reference { start, moving }))
}

fn load_lora(
    config: &Config,
    lora: &crate::settings::LoraConfig,
    folder: &ModelFolder,
    machine: Machine,
) -> Result<(Policy, Reference)> {
    let mut denoiser = folder.load_denoiser(config.model.unet.as_deref(), &machine.frozen())?;
    let mut text_lora = Lora::default();
    let mut weights = match &lora.init {
        Some(path) => {
            text_lora = Lora::read(path, &folder.lora_targets())?;
            text_lora.take(Network::Unet)
        }
        None => {
            let draws = Draws { seed: config.train.seed, draws_per_pair: 0, total_timesteps: 1 };
            let draw = |name: &str, shape: &[i64]| {
                let inputs: i64 = shape[1..].iter().product();
                draws.lora(name, shape[0], inputs).reshape(shape)
            };
            LoraWeights::init(&denoiser.unet, lora.rank, lora.alpha, &lora.targets, &draw)
                .map_err(|e| ConfigError(format!("[lora]: {e}")))?
        }
    };
    if let Some(path) = &lora.init {
        check_init(path, &weights, lora.rank)?;
    }
    for module in weights.modules.values_mut() {
        module.a = module.a.to_device(machine.device).to_kind(machine.master);
        module.b = module.b.to_device(machine.device).to_kind(machine.master);
    }
    // With `init` the start values are the reference: a second set that nobody trains, on the same base weights.
    let start = match &lora.init {
        Some(_) => Some(weights.copy().attach(&mut denoiser.unet)?),
        None => None,
    };
    let moving = match config.reference.as_ref().filter(|r| r.moves()) {
        Some(moves) => {
            let copy = weights.copy();
            let network = Comparison::SameNetwork(Some(copy.attach(&mut denoiser.unet)?));
            Some(Moving::new(moves, network, copy.trainable()))
        }
        None => None,
    };
    let adapters = Some(weights.attach(&mut denoiser.unet)?);
    let trainable = weights.trainable();
    require_grad(&trainable);
    let policy = Policy { denoiser, adapters, lora: Some(weights), text_lora, trainable };
    Ok((policy, Reference { start: Comparison::SameNetwork(start), moving }))
}

/// A file may have several ranks, as where convolutions have their own: lora.rank names the largest.
fn check_init(path: &Path, weights: &LoraWeights, rank: i64) -> Result<()> {
    let refuse = |problem: String| bail!(ConfigError(format!("lora.init = \"{}\": {problem}", path.display())));
    match weights.modules.iter().max_by_key(|(_, module)| module.rank()) {
        None => refuse("it has no part for the UNet, which is what is trained.".into()),
        Some((name, module)) if module.rank() != rank => refuse(format!(
            "{name} has rank {}, lora.rank is {rank}: expected the same. Set lora.rank = {}.",
            module.rank(),
            module.rank()
        )),
        Some(_) => Ok(()),
    }
}

fn require_grad(tensors: &[(String, Tensor)]) {
    for (_, tensor) in tensors {
        let _ = tensor.set_requires_grad(true);
    }
}

/// In which a target is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// The network's own parameterisation.
    Native,
    /// Noise, whatever the network predicts.
    Epsilon,
}

/// Noisy latents with what should be predicted from them.
pub struct Noised {
    /// `[R, C, h, w]`, compute kind
    pub latents: Tensor,
    /// `[R, C, h, w]`, master kind
    pub target: Tensor,
    /// `[R]` int64
    pub timesteps: Tensor,
    pub conditioning: Conditioning,
    pub space: Space,
}

impl Noised {
    /// Noises `latents` `[R, C, h, w]` (float32, any device) on the run's device.
    pub fn new(
        denoiser: &Denoiser,
        machine: Machine,
        latents: &Tensor,
        noise: &Tensor,
        timesteps: &Tensor,
        conditioning: &Conditioning,
    ) -> Self {
        let place = |t: &Tensor| t.to_device(machine.device).to_kind(machine.master);
        let (clean, noise) = (place(latents), place(noise));
        let timesteps = timesteps.to_device(machine.device);
        let target = denoiser.target(&clean, &noise, &timesteps);
        let noisy = denoiser.add_noise(&clean, &noise, &timesteps).to_kind(machine.compute);
        let conditioning = conditioning.to(machine.device, machine.compute);
        let target = target.to_kind(machine.master);
        Self { latents: noisy, target, timesteps, conditioning, space: Space::Native }
    }

    /// Some of the rows.
    pub fn select(&self, rows: &[i64]) -> Self {
        let index = Tensor::from_slice(rows).to_device(self.latents.device());
        let take = |t: &Tensor| t.index_select(0, &index);
        Self {
            latents: take(&self.latents),
            target: take(&self.target),
            timesteps: take(&self.timesteps),
            conditioning: self.conditioning.map(take),
            space: self.space,
        }
    }

    /// Prediction minus target, `[R, C, h, w]`, master kind.
    pub fn residuals(&self, denoiser: &Denoiser, adapters: Option<AdapterSet>) -> Result<Tensor> {
        let noise_pred = denoiser
            .predict(&self.latents, &self.timesteps, &self.conditioning, adapters)
            .context("the network refused a batch")?
            .to_kind(self.target.kind());
        let noise_pred = match self.space {
            Space::Native => noise_pred,
            Space::Epsilon => {
                denoiser.noise_of(&noise_pred, &self.latents.to_kind(self.target.kind()), &self.timesteps)
            }
        };
        Ok(noise_pred - &self.target)
    }
}
