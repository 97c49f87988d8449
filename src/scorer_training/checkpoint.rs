//! Checkpoints of a scorer's training: trained tensors, optimizers, and the hashes of the inputs.

use super::learner::Learner;
use crate::machine::files::{publish_dir, unfinished_dir, write_atomically};
use crate::run_folder::checkpoints::{self, STATE, file_hashes};
use anyhow::{Context, Result};
use pipelines::weights::{WeightStore, write_safetensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Content of a checkpoint besides tensors.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// The last finished step.
    pub step: u64,
    /// SHA-256 of model and data.
    pub inputs: BTreeMap<String, String>,
    /// SHA-256 of every other file.
    pub files: BTreeMap<String, String>,
}

/// Writes `checkpoint-STEP` into the run folder, and removes older ones.
///
/// # Errors
/// A folder that cannot be written.
pub fn save(run: &Path, learner: &Learner, step: u64, inputs: &BTreeMap<String, String>) -> Result<()> {
    let target = run.join(checkpoints::name(step));
    let write = || -> Result<()> {
        let parts = unfinished_dir(run)?;
        write_safetensors(&parts.path().join(WEIGHTS), &learner.trained(), &[("format", "pt")])?;
        write_safetensors(&parts.path().join(OPTIMIZER), &learner.optimizer_state(), &[("format", "pt")])?;
        let state = State { step, inputs: inputs.clone(), files: file_hashes(parts.path())? };
        write_atomically(&parts.path().join(STATE), &serde_json::to_vec_pretty(&state)?)?;
        publish_dir(parts, &target)
    };
    write().with_context(|| format!("cannot write {}; the last whole checkpoint stays usable", target.display()))?;
    let whole: Vec<(u64, PathBuf)> = checkpoints::list(run).into_iter().filter(|(other, _)| *other <= step).collect();
    let old = whole.len().saturating_sub(learner.settings.train.keep_last);
    for (_, path) in &whole[..old] {
        std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// State of a whole checkpoint.
///
/// # Errors
/// A damaged checkpoint.
pub fn check(path: &Path) -> Result<State> {
    let state: State = serde_json::from_slice(&std::fs::read(path.join(STATE))?).context("state.json is damaged")?;
    checkpoints::check_files(path, &state.files)?;
    Ok(state)
}

/// Restores trained tensors and optimizers.
///
/// # Errors
/// A checkpoint that lacks a tensor.
pub fn load(path: &Path, learner: &mut Learner) -> Result<()> {
    let read = |name: &str| checkpoints::read_all(WeightStore::from_file(&path.join(name))?);
    learner.restore(&read(WEIGHTS)?, &read(OPTIMIZER)?)
}
