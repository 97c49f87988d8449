//! Policy and reference from the files of a model.

use super::machine::Machine;
use super::policy::Policy;
use super::predict::Networks;
use super::reference::{Frozen, Moved, Reference, StartValues};
use crate::data::draws::Draws;
use crate::keys::ConfigError;
use crate::settings::{LoraConfig, Settings};
use anyhow::{Result, bail};
use pipelines::LevelRange;
use pipelines::families::{Denoiser, ModelFolder};
use pipelines::lora::{Lora, LoraWeights, Network};
use std::path::Path;
use tch::Tensor;

/// Policy and reference by the settings. `needs_reference`: training compares with the start model. `base`: networks
/// of an earlier run with the same files, in the type of frozen weights, which need not be loaded again.
///
/// # Errors
/// Errors of the model's files, and a LoRA that does not fit.
pub fn load(
    config: &Settings,
    folder: &ModelFolder,
    machine: Machine,
    needs_reference: bool,
    base: Option<Denoiser>,
) -> Result<Networks> {
    let mut networks = match &config.lora {
        Some(lora) => load_lora(config, lora, folder, machine, base)?,
        None => load_full(config, folder, machine, needs_reference, base)?,
    };
    networks.policy.denoiser.network.set_recompute(config.train.gradient_checkpointing);
    Ok(networks)
}

/// The start model alone, in the type of frozen weights, without anything to train: the reference of a full fine-tune
/// before its policy is loaded.
///
/// # Errors
/// Errors of the model's files.
pub fn load_start(config: &Settings, folder: &ModelFolder, machine: Machine) -> Result<Networks> {
    let denoiser = folder.load_denoiser(config.model.unet.as_deref(), &machine.frozen())?;
    let policy = Policy { denoiser, adapters: None, lora: None, text_lora: Lora::default(), trainable: Vec::new() };
    Ok(Networks { machine, policy, start: Some(Box::new(StartValues(None))), moved: None })
}

fn load_full(
    config: &Settings,
    folder: &ModelFolder,
    machine: Machine,
    needs_reference: bool,
    base: Option<Denoiser>,
) -> Result<Networks> {
    let unet_dir = config.model.unet.as_deref();
    // Without a reference the old weights would stay loaded without use.
    let base = base.filter(|_| needs_reference);
    let denoiser = folder.load_denoiser(unet_dir, &machine.trained())?;
    let trainable = denoiser.network.named_parameters();
    require_grad(&trainable);
    let frozen = || folder.load_denoiser(unet_dir, &machine.frozen());
    let start: Option<Box<dyn Reference>> = match needs_reference {
        true => Some(Box::new(Frozen(base.map_or_else(frozen, Ok)?))),
        false => None,
    };
    let moved = match config.reference.as_ref().and_then(|reference| reference.updates.as_ref()) {
        Some(moves) => {
            let copy = frozen()?;
            let tensors = copy.network.named_parameters();
            Some(Moved::new(moves, Box::new(Frozen(copy)), tensors))
        }
        None => None,
    };
    let policy = Policy { denoiser, adapters: None, lora: None, text_lora: Lora::default(), trainable };
    Ok(Networks { machine, policy, start, moved })
}

fn load_lora(
    config: &Settings,
    lora: &LoraConfig,
    folder: &ModelFolder,
    machine: Machine,
    base: Option<Denoiser>,
) -> Result<Networks> {
    let load = || folder.load_denoiser(config.model.unet.as_deref(), &machine.frozen());
    let mut denoiser = base.map_or_else(load, Ok)?;
    let mut text_lora = Lora::default();
    let mut weights = match &lora.init {
        Some(path) => {
            text_lora = Lora::read(path, &folder.lora_targets())?;
            text_lora.take(Network::Unet)
        }
        None => {
            let draws = Draws { seed: config.train.seed, draws_per_pair: 0, range: LevelRange::Unit };
            let draw = |name: &str, shape: &[i64]| {
                let inputs: i64 = shape[1..].iter().product();
                draws.lora(name, shape[0], inputs).reshape(shape)
            };
            LoraWeights::init(&*denoiser.network, lora.rank, lora.alpha, &lora.targets, &draw)
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
    // With `init` the start values are the reference: a second, untrained set on the same base weights.
    let start = match &lora.init {
        Some(_) => Some(weights.copy().attach(denoiser.network.as_mut())?),
        None => None,
    };
    let moved = match config.reference.as_ref().and_then(|reference| reference.updates.as_ref()) {
        Some(moves) => {
            let copy = weights.copy();
            let network = StartValues(Some(copy.attach(denoiser.network.as_mut())?));
            Some(Moved::new(moves, Box::new(network), copy.trainable()))
        }
        None => None,
    };
    let adapters = Some(weights.attach(denoiser.network.as_mut())?);
    let trainable = weights.trainable();
    require_grad(&trainable);
    let policy = Policy { denoiser, adapters, lora: Some(weights), text_lora, trainable };
    Ok(Networks { machine, policy, start: Some(Box::new(StartValues(start))), moved })
}

/// A file may have several ranks, for example for convolutions: lora.rank is the largest.
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
