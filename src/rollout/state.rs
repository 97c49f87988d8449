//! Where the rollouts of a run stand.

use super::advantages::Advantages;
use super::kept::{Kept, KeptUnit};
use super::measured::Measured;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The folder of a run where buffers on disk lie.
pub const FOLDER: &str = "rollouts";
pub const ITERATION: &str = "iteration-";
/// The buffer in a checkpoint.
pub const BUFFER: &str = "rollout.safetensors";

/// `rollouts/iteration-000012`
pub fn folder_name(iteration: u64) -> String {
    format!("{FOLDER}/{ITERATION}{iteration:06}")
}

/// Where a run stands. Part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The iteration in hand, or the next one.
    pub iteration: u64,
    /// Updates of it, and how many of them are done; 0 updates: it is still to be sampled.
    pub updates: u64,
    pub done: u64,
    pub kept: Vec<Kept>,
    pub units: Vec<KeptUnit>,
    /// Of a method that compares rewards with earlier ones.
    pub advantages: Option<Advantages>,
    /// Network evaluations so far, a row each.
    pub evaluations: u64,
    /// Iterations just before this one that kept nothing.
    pub empty: u64,
    /// What the iteration just sampled says of itself, until the metrics line of its first step is written.
    #[serde(default)]
    pub report: Option<Map<String, Value>>,
    /// What held-out prompts were worth before anything was trained.
    #[serde(default)]
    pub start: Option<Measured>,
    /// SHA-256 of the buffer's files in the run folder, by their path in it; empty where the checkpoint holds the buffer.
    pub files: BTreeMap<String, String>,
}

impl State {
    /// Whether there is a buffer.
    pub fn is_sampled(&self) -> bool {
        self.updates > 0
    }
}
