//! The run's objects that rollouts use.

use crate::networks::{Machine, Networks};
use crate::progress::{Progress, Stop};
use crate::settings::Settings;
use anyhow::Result;
use pipelines::Conditioning;
use pipelines::families::ModelFolder;

/// Embeddings of prompts, encoded before training.
pub trait Prompts {
    /// One row per prompt.
    ///
    /// # Errors
    /// A prompt that was not encoded.
    fn conditioning(&self, prompts: &[&str]) -> Result<Conditioning>;
}

/// Inputs of the rollouts.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub config: &'a Settings,
    pub folder: &'a ModelFolder,
    /// Training prompts, each once; a prompt's place is its index in draws.
    pub prompts: &'a [String],
    /// Prompts of [validate].
    pub held_out: &'a [String],
    pub machine: Machine,
}

/// The run's objects that sampling uses.
#[derive(Clone, Copy)]
pub struct Resources<'a> {
    pub networks: &'a Networks,
    pub prompts: &'a dyn Prompts,
    pub folder: &'a ModelFolder,
    pub progress: &'a dyn Progress,
    pub stop: &'a Stop,
}
