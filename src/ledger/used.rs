//! A run's record of the ledger that it uses.

use crate::machine::files::write_atomically;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the record in a run folder.
pub const USED: &str = "ledger.json";

/// The ledger of a run, and how many errors came from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Name of the ledger's folder.
    pub ledger: String,
    /// Seed of the training draws.
    pub seed: u64,
    /// Errors read from the ledger, since the start of the run.
    pub read: u64,
    /// Errors computed by the reference.
    pub computed: u64,
}

impl Used {
    /// The record of the run in `run`; `None` if it is missing or damaged.
    pub fn of_run(run: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(run.join(USED)).ok()?).ok()
    }

    /// Writes the record into a run folder.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, run: &Path) -> Result<()> {
        write_atomically(&run.join(USED), &serde_json::to_vec_pretty(self)?)
    }
}
