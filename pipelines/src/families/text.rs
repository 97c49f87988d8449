//! Prompts to conditioning.

use super::Declaration;
use crate::error::{Error, Result};
use crate::models::{ClipOutput, ClipTextModel, Conditioning};
use crate::text::Tokenizer;
use tch::{Device, Tensor};

/// A CLIP with its tokenizer.
pub struct Encoder {
    pub tokenizer: Tokenizer,
    pub clip: ClipTextModel,
}

/// The text encoders of a model, in the order in which their embeddings lie side by side.
pub struct TextEncoder {
    encoders: Vec<Encoder>,
    declaration: &'static Declaration,
    device: Device,
}

/// What one encoder made of a batch of prompts.
pub(super) struct Encoded<'a> {
    pub clip: &'a ClipTextModel,
    pub output: ClipOutput,
}

impl Encoded<'_> {
    /// The unnormed output of the block that many before the last, `[B, L, D]`.
    pub fn hidden_state(&self, before_last: usize) -> Result<&Tensor> {
        let blocks = self.clip.config().layers;
        self.output.hidden_states.iter().rev().nth(before_last).ok_or_else(|| {
            Error::Invalid(format!(
                "a text encoder has {blocks} blocks, clip_skip asks for {before_last} before the last"
            ))
        })
    }
}

impl TextEncoder {
    pub(super) fn new(encoders: Vec<Encoder>, declaration: &'static Declaration, device: Device) -> Result<Self> {
        let length = |encoder: &Encoder| encoder.tokenizer.length();
        if let Some(pair) = encoders.windows(2).find(|pair| length(&pair[0]) != length(&pair[1])) {
            return Err(Error::Invalid(format!(
                "one tokenizer pads prompts to {} tokens, another to {}: their embeddings lie side by side and must \
                 have the same length; restore model_max_length in tokenizer_config.json",
                length(&pair[0]),
                length(&pair[1])
            )));
        }
        Ok(Self { encoders, declaration, device })
    }

    /// What the UNet is told of B prompts: `[B, L, D]`, and `[B, P]` where the family pools; no time_ids. `clip_skip` as
    /// diffusers counts it: 0 is the family's own layer, n the output of the block n before that.
    pub fn encode_prompts(&self, prompts: &[&str], clip_skip: usize) -> Result<Conditioning> {
        let encoded = self.encoders.iter().map(|encoder| {
            let ids = encoder.tokenizer.encode(prompts)?.f_to_device(self.device)?;
            Ok(Encoded { clip: &encoder.clip, output: encoder.clip.forward(&ids)? })
        });
        (self.declaration.conditioning)(&encoded.collect::<Result<Vec<_>>>()?, clip_skip)
    }

    pub fn encoders(&self) -> &[Encoder] {
        &self.encoders
    }

    /// Ids a prompt gets, with start, end and padding.
    pub fn length(&self) -> i64 {
        self.encoders.first().map_or(0, |encoder| encoder.tokenizer.length())
    }

    /// Tokens of `prompt` that the encoders do not see, of the one that sees least. 0 for nearly every prompt.
    pub fn tokens_cut(&self, prompt: &str) -> Result<usize> {
        let mut cut = self.encoders.iter().map(|encoder| encoder.tokenizer.tokens_cut(prompt));
        cut.try_fold(0, |most, cut| Ok(most.max(cut?)))
    }
}
