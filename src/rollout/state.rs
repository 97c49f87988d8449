//! Progress of the rollouts of a run.

use super::advantages::Advantages;
use super::kept::{Kept, KeptUnit};
use super::measured::Measured;
use super::report::SampledMetrics;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Folder of buffers on disk in a run.
pub const FOLDER: &str = "rollouts";
pub const ITERATION: &str = "iteration-";
/// The buffer in a checkpoint.
pub const BUFFER: &str = "rollout.safetensors";

/// `rollouts/iteration-000012`
pub fn folder_name(iteration: u64) -> String {
    format!("{FOLDER}/{ITERATION}{iteration:06}")
}

/// Progress of the rollouts. Part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The current iteration, or the next one.
    pub iteration: u64,
    /// Its number of updates, and how many are done; 0 updates: not sampled yet.
    pub updates: u64,
    pub done: u64,
    pub kept: Vec<Kept>,
    pub units: Vec<KeptUnit>,
    /// Memory of a method that compares rewards with earlier ones.
    pub advantages: Option<Advantages>,
    /// Network evaluations so far, counted per row.
    pub evaluations: u64,
    /// Iterations just before this one without kept units.
    pub empty: u64,
    /// Metrics of the last sampled iteration, until the metrics line of its first step is written.
    #[serde(default)]
    pub report: Option<SampledMetrics>,
    /// Ratings of held-out prompts before training.
    #[serde(default)]
    pub start: Option<Measured>,
    /// SHA-256 of the buffer's files in the run folder, by relative path; empty if the checkpoint holds the buffer.
    pub files: BTreeMap<String, String>,
}

impl State {
    /// Whether there is a buffer.
    pub fn is_sampled(&self) -> bool {
        self.updates > 0
    }
}
