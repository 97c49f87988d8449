//! Checkpoints of any training: folders that appear by rename once they are whole and synced, with a checksum per file.

use crate::machine::hashes;
use anyhow::{Result, bail};
use pipelines::weights::WeightStore;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// State of a checkpoint besides tensors. A folder without it is no checkpoint.
pub const STATE: &str = "state.json";

/// `checkpoint-000200`
pub fn name(step: u64) -> String {
    format!("checkpoint-{step:06}")
}

/// SHA-256 of every file below a folder, by relative path.
///
/// # Errors
/// Unreadable files.
pub fn file_hashes(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(relative) = path.strip_prefix(dir) {
                out.insert(relative.display().to_string(), hashes::of_file(&path)?);
            }
        }
    }
    Ok(out)
}

/// Compares the files of a checkpoint with their recorded hashes.
///
/// # Errors
/// A file that is missing or damaged.
pub fn check_files(checkpoint: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    for (file, expected) in files {
        let found = hashes::of_file(&checkpoint.join(file))?;
        if found != *expected {
            bail!("{file} is damaged: sha256 {found}, expected {expected}");
        }
    }
    Ok(())
}

/// Every checkpoint of a run with its state, oldest first.
pub fn list(run: &Path) -> Vec<(u64, PathBuf)> {
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(run)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.strip_prefix("checkpoint-")?.parse().ok()?, e.path())))
        .filter(|(_, path): &(u64, PathBuf)| path.join(STATE).exists())
        .collect();
    found.sort();
    found
}

/// The newest checkpoint that passes `check`, which returns its state, and the reasons for skipping newer ones.
pub fn newest<S>(run: &Path, check: &dyn Fn(&Path) -> Result<S>) -> (Option<(PathBuf, S)>, Vec<String>) {
    let mut passed = Vec::new();
    for (_, path) in list(run).into_iter().rev() {
        match check(&path) {
            Ok(state) => return (Some((path, state)), passed),
            Err(e) => passed.push(format!("passing over {}: {e:#}", path.display())),
        }
    }
    (None, passed)
}

/// Every tensor of a file, by name.
///
/// # Errors
/// An unreadable file.
pub fn read_all(store: WeightStore) -> Result<HashMap<String, Tensor>> {
    let names: Vec<String> = store.names().map(str::to_string).collect();
    names.into_iter().map(|n| Ok((n.clone(), store.tensor(&n)?))).collect()
}
