//! Scorers that were trained on the labels of a model's data: both learnt the errors of the same labels.

use super::spec::ScorerSpec;
use crate::data::index::identified;
use crate::heads::Saved;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// A data file that a model was trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    pub path: PathBuf,
    /// SHA-256 of the data set, as scorer.json of a trained scorer has it.
    pub sha256: String,
}

impl DataFile {
    /// The data at `path` (`[data] path`).
    ///
    /// # Errors
    /// No data at `path`, an unreadable file.
    pub fn of(path: &Path) -> Result<Self> {
        let (path, sha256) = identified(path)?;
        Ok(Self { path, sha256 })
    }

    /// A warning if a scorer was trained on this file.
    ///
    /// # Errors
    /// A damaged scorer.json.
    pub fn taught(&self, scorer: &ScorerSpec) -> Result<Option<String>> {
        let saved = if scorer.path.is_dir() { Saved::read(&scorer.path)? } else { None };
        let same = saved.is_some_and(|saved| saved.data_sha256.contains(&self.sha256));
        Ok(same.then(|| {
            format!(
                "the scorer \"{}\" ({}) was trained on {}, as the model was. Both learnt the errors of its labels, and its \
                 figures cannot show them. Use a scorer that was trained on other labels",
                scorer.name,
                scorer.path.display(),
                self.path.display()
            )
        }))
    }
}
