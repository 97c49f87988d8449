//! Prompts to conditioning.

use crate::error::{Error, Result};
use crate::models::{ClipTextModel, Conditioning};
use crate::text::Tokenizer;
use tch::Device;

/// Tokenizer and text encoder of a Stable Diffusion 1 or 2 model.
pub struct TextEncoder {
    pub tokenizer: Tokenizer,
    pub clip: ClipTextModel,
    device: Device,
}

impl TextEncoder {
    pub(super) fn new(tokenizer: Tokenizer, clip: ClipTextModel, device: Device) -> Self {
        Self { tokenizer, clip, device }
    }

    /// `[B, L, D]` for B prompts. `clip_skip` as in diffusers: the output of the block that many before the last, with
    /// the final norm; 0 is the last.
    pub fn encode_prompts(&self, prompts: &[&str], clip_skip: usize) -> Result<Conditioning> {
        let ids = self.tokenizer.encode(prompts)?.f_to_device(self.device)?;
        let output = self.clip.forward(&ids)?;
        if clip_skip == 0 {
            return Ok(Conditioning::of_prompt(output.last_hidden_state));
        }
        let blocks = self.clip.config().layers;
        let state = output.hidden_states.iter().rev().nth(clip_skip).ok_or_else(|| {
            Error::Invalid(format!(
                "clip_skip is {clip_skip}, expected 0 to {blocks}: the text encoder has {blocks} blocks"
            ))
        })?;
        Ok(Conditioning::of_prompt(self.clip.final_norm(state)))
    }
}
