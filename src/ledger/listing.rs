//! The ledgers of a cache folder, for people.

use super::origin::{self, Origin};
use super::shard;
use super::store::{self, Part};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A ledger on disk.
pub struct Listed {
    pub path: PathBuf,
    /// Name of its folder.
    pub name: String,
    /// `None`: the description is missing or damaged.
    pub origin: Option<Origin>,
    pub parts: BTreeMap<Part, Stored>,
}

/// The shards of one part of a ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    pub files: Vec<PathBuf>,
    pub bytes: u64,
    /// Forward passes.
    pub records: u64,
    pub errors: u64,
    /// Files that cannot be read.
    pub damaged: usize,
}

/// All ledgers of a cache folder, by name; none without one.
pub fn ledgers(cache_dir: &Path) -> Vec<Listed> {
    store::folders(&store::folder(cache_dir)).into_iter().map(Listed::of_folder).collect()
}

impl Listed {
    fn of_folder(path: PathBuf) -> Self {
        let mut parts: BTreeMap<Part, Stored> = BTreeMap::new();
        for name in store::names(&path) {
            let Some(part) = Part::of_file(&name) else { continue };
            let stored = parts.entry(part).or_default();
            let file = path.join(name);
            stored.bytes += std::fs::metadata(&file).map_or(0, |meta| meta.len());
            match shard::sizes(&file) {
                Ok((records, errors)) => {
                    stored.records += records;
                    stored.errors += errors;
                }
                Err(_) => stored.damaged += 1,
            }
            stored.files.push(file);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { origin: Origin::read(&path), name, parts, path }
    }

    /// Removes one part of it.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove_part(&self, part: Part) -> Result<()> {
        let files = self.parts.get(&part).into_iter().flat_map(|stored| &stored.files);
        for file in files {
            std::fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        Ok(())
    }

    /// Removes all of it. Files that are not its own stay, and are an error.
    ///
    /// # Errors
    /// A folder that cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.parts.keys().try_for_each(|part| self.remove_part(*part))?;
        // Missing where a process was killed before it was written.
        let _ = std::fs::remove_file(self.path.join(origin::FILE));
        std::fs::remove_dir(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}
