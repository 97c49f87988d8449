//! Rows and columns of a run's sample grids: `samples/prompts.json`.

use crate::machine::files::write_atomically;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "prompts.json";

/// Prompts and seeds of every grid of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplePlan {
    pub prompts: Vec<String>,
    pub seeds: Vec<i64>,
}

impl SamplePlan {
    /// Writes the file into the run's `samples` folder.
    ///
    /// # Errors
    /// An unwritable folder.
    pub fn write(&self, samples: &Path) -> Result<()> {
        write_atomically(&samples.join(FILE), &serde_json::to_vec_pretty(self)?)
    }

    /// The plan in a run's `samples` folder, if any.
    ///
    /// # Errors
    /// A damaged file.
    pub fn read(samples: &Path) -> Result<Option<Self>> {
        let file = samples.join(FILE);
        if !file.is_file() {
            return Ok(None);
        }
        let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let plan = serde_json::from_slice(&text)
            .with_context(|| format!("{}: expected {{\"prompts\": [..], \"seeds\": [..]}}", file.display()))?;
        Ok(Some(plan))
    }
}
