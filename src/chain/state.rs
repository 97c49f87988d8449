//! State of a step on disk: a small file beside its output.

use super::steps::Step;
use crate::machine::files::write_atomically;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Content of `STAGE.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Hash of the inputs.
    pub key: String,
    /// Whether the command ended well.
    pub finished: bool,
    /// The command, for the reader.
    pub command: Vec<String>,
    /// Work of all its calls.
    pub seconds: f64,
}

impl State {
    /// `STAGE.json`, beside the output folder `STAGE`.
    pub fn path(step: &Step) -> PathBuf {
        beside(step, "json")
    }

    /// `STAGE.log`: stdout of the command.
    pub fn log(step: &Step) -> PathBuf {
        beside(step, "log")
    }

    /// The state on disk; `None` without one, or with one that cannot be read: the step then runs again.
    pub fn read(step: &Step) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(step)).ok()?).ok()
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, step: &Step) -> Result<()> {
        let path = Self::path(step);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        write_atomically(&path, &serde_json::to_vec_pretty(self)?)
    }

    /// Whether the output is there: the command ended well with these inputs, and nobody removed the folder.
    pub fn is_valid(&self, key: &str, out: &Path) -> bool {
        self.finished && self.key == key && out.is_dir()
    }
}

fn beside(step: &Step, ending: &str) -> PathBuf {
    let mut name = step.out.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    name.into()
}
