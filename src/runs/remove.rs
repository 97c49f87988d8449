//! Removal of run folders.

use super::folders::is_run;
use super::record::Record;
use super::status::Status;
use super::store::Store;
use crate::keys::ConfigError;
use anyhow::{Context, Result};

/// Removes the folder of a run and forgets it. A run whose folder is gone already is forgotten.
///
/// # Errors
/// A folder that is no run's, and a run at work.
pub fn remove(store: &Store, record: &Record) -> Result<()> {
    let folder = store.root.join(&record.path);
    if folder.exists() {
        if !is_run(&folder) {
            let text = format!(
                "{} is no folder of a run: there is no resolved.toml in it. Nothing is removed.",
                folder.display()
            );
            return Err(ConfigError(text).into());
        }
        if Record::of_folder(&store.root, &folder)?.status == Status::Running {
            let text = format!("{}: a process is writing this run. Stop it first.", folder.display());
            return Err(ConfigError(text).into());
        }
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    store.forget(record)
}
