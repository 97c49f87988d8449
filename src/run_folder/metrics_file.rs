//! metrics.jsonl of a run.

use super::folder::{METRICS, RunDir};
use anyhow::{Context, Result};
use std::io::Write;

/// Appends lines to metrics.jsonl; each is whole before the next step starts.
pub struct MetricsFile(std::fs::File);

impl MetricsFile {
    pub fn open(run: &RunDir) -> Result<Self> {
        let path = run.join(METRICS);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self(file.with_context(|| format!("cannot open {}", path.display()))?))
    }

    pub fn line(&mut self, json: &str) -> Result<()> {
        self.0
            .write_all(format!("{json}\n").as_bytes())
            .context("cannot write metrics.jsonl; the last whole checkpoint stays usable")
    }

    /// Syncs the lines before a checkpoint, which must not outlive them.
    pub fn sync(&self) -> Result<()> {
        self.0.sync_data().context("cannot sync metrics.jsonl")
    }
}
