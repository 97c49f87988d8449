//! Content of a checkpoint.

use super::history::History;
use super::learner::Learner;
use super::validation::StartErrors;
use crate::machine::files::{publish_dir, unfinished_dir, write_atomically};
use crate::machine::hashes;
use crate::metrics::Line;
use crate::networks::{LORA_FILE, MovedState, copy_into, write_weights};
use crate::rollout::{self, Rollout};
use crate::run_folder::checkpoints::{self, STATE, file_hashes, list, name, read_all};
use anyhow::{Context, Result, bail};
use pipelines::weights::{WeightStore, write_safetensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const OPTIMIZER: &str = "optimizer.safetensors";
const EMA: &str = "ema.safetensors";
const REFERENCE: &str = "reference.safetensors";

/// Content of a checkpoint besides tensors.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// The last finished step.
    pub step: u64,
    #[serde(flatten)]
    pub history: History,
    /// State of a moving reference.
    #[serde(default)]
    pub reference: Option<MovedState>,
    /// State of a method that samples while it trains.
    #[serde(default)]
    pub rollout: Option<rollout::State>,
    /// Ids of items with unreadable images.
    pub unreadable: Vec<String>,
    /// Errors of the start model on the validation pairs, once measured.
    pub start_errors: Option<StartErrors>,
    /// Step of `best/`, and its val_margin (labels: -val_loss).
    pub best: Option<(u64, f64)>,
    /// The gradient factor of held-out pairs that ended the run before its last step.
    #[serde(default)]
    pub spent: Option<f64>,
    pub pending: Pending,
    /// SHA-256 of every other file.
    pub files: BTreeMap<String, String>,
}

/// Pending work after the last finished step, which a signal may interrupt.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pending {
    /// The step's metrics line, incomplete until its validation.
    pub line: Option<Line>,
    /// beta of the step.
    pub beta: f64,
    /// The sample grid of the step is pending.
    pub samples: bool,
}

/// Writes `checkpoint-STEP` into the run folder.
pub fn save(run: &Path, learner: &Learner, rollout: Option<&Rollout>, mut state: State) -> Result<()> {
    let target = run.join(name(state.step));
    let mut write = || -> Result<()> {
        let parts = unfinished_dir(run)?;
        write_weights(&learner.networks().policy, parts.path(), None, "")?;
        write_safetensors(&parts.path().join(OPTIMIZER), &learner.optimizer().state(), &[("format", "pt")])?;
        if let Some(average) = learner.average() {
            write_safetensors(&parts.path().join(EMA), average, &[("format", "pt")])?;
        }
        if let Some(moved) = learner.networks().moved.as_ref().filter(|m| m.state.copied) {
            write_safetensors(&parts.path().join(REFERENCE), &moved.tensors, &[("format", "pt")])?;
        }
        if let Some(rollout) = rollout {
            rollout.save(parts.path())?;
        }
        state.files = file_hashes(parts.path())?;
        write_atomically(&parts.path().join(STATE), &serde_json::to_vec_pretty(&state)?)?;
        publish_dir(parts, &target)
    };
    write().with_context(|| format!("cannot write {}; the last whole checkpoint stays usable", target.display()))
}

/// Files of the run folder named by its checkpoints.
pub fn rollout_files(run: &Path) -> Vec<String> {
    let state = |path: PathBuf| serde_json::from_slice::<State>(&std::fs::read(path.join(STATE)).ok()?).ok();
    let states = list(run).into_iter().filter_map(|(_, path)| state(path)?.rollout);
    states.flat_map(|rollout| rollout.files.into_keys()).collect()
}

/// State of a whole checkpoint.
pub fn check(path: &Path) -> Result<State> {
    let text = std::fs::read(path.join(STATE))?;
    let state: State = serde_json::from_slice(&text).context("state.json is damaged")?;
    checkpoints::check_files(path, &state.files)?;
    let run = path.parent().unwrap_or(Path::new("."));
    for (file, expected) in state.rollout.iter().flat_map(|rollout| &rollout.files) {
        let found = hashes::of_file(&run.join(file))?;
        if found != *expected {
            bail!("{file} of the run is damaged: sha256 {found}, expected {expected}");
        }
    }
    Ok(state)
}

/// Restores weights, optimizer, EMA and statistics from a checkpoint.
pub fn load(path: &Path, state: &State, learner: &mut Learner) -> Result<()> {
    let (networks, optimizer, ema, history) = learner.restored();
    let weights = match &networks.policy.lora {
        None => read_all(WeightStore::open_component(&path.join("unet"), "diffusion_pytorch_model")?)?,
        Some(_) => read_all(WeightStore::from_file(&path.join(LORA_FILE))?)?,
    };
    for (name, tensor) in &networks.policy.trainable {
        copy_into(&mut tensor.shallow_clone(), &weights, name)?;
    }
    optimizer.load(&read_all(WeightStore::from_file(&path.join(OPTIMIZER))?)?)?;
    if let Some(ema) = ema {
        ema.load(&read_all(WeightStore::from_file(&path.join(EMA))?)?)?;
    }
    if let (Some(moved), Some(then)) = (&mut networks.moved, &state.reference) {
        if then.copied {
            let stored = read_all(WeightStore::from_file(&path.join(REFERENCE))?)?;
            moved.tensors.iter_mut().try_for_each(|(name, t)| copy_into(t, &stored, name))?;
        }
        moved.state = then.clone();
    }
    *history = state.history.clone();
    Ok(())
}

/// Keeps the newest `keep_last` up to `step`, the one just written, and those at multiples of `keep_every`. Older
/// LoRA checkpoints keep their weights. Newer checkpoints are damaged ones that a resume skipped: they do not count,
/// and are replaced when the run reaches their step.
pub fn rotate(run: &Path, step: u64, keep_last: usize, keep_every: Option<u64>) -> Result<()> {
    let mut whole = list(run);
    whole.retain(|(s, _)| *s <= step);
    let old = whole.len().saturating_sub(keep_last);
    for (step, path) in &whole[..old] {
        if keep_every.is_some_and(|k| step % k == 0) {
            continue;
        }
        if path.join(LORA_FILE).exists() {
            for file in [STATE, OPTIMIZER, EMA, REFERENCE, rollout::BUFFER] {
                let _ = std::fs::remove_file(path.join(file));
            }
        } else {
            std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
