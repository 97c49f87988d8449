//! Outputs of a text encoder before they become conditioning.

use crate::error::{Error, Result};
use crate::models::{ClipOutput, ClipTextModel};
use tch::Tensor;

/// Outputs of one encoder for a batch of prompts.
pub(super) struct Encoded<'a> {
    pub clip: &'a ClipTextModel,
    pub output: ClipOutput,
}

impl Encoded<'_> {
    /// The output without norm of the block `n` before the last, `[B, L, D]`.
    pub fn hidden_state(&self, before_last: usize) -> Result<&Tensor> {
        let blocks = self.clip.config().layers;
        self.output.hidden_states.iter().rev().nth(before_last).ok_or_else(|| {
            Error::Invalid(format!("a text encoder has {blocks} blocks, clip_skip needs {before_last} before the last"))
        })
    }
}
