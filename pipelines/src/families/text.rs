//! Prompts to conditioning.

use super::declaration::Declaration;
use super::encoded::Encoded;
use crate::conditioning::Conditioning;
use crate::error::{Error, Result};
use crate::lora::{Lora, Network};
use crate::models::{AdapterSet, ClipTextModel};
use crate::text::Tokenizer;
use tch::Device;

/// A CLIP with its tokenizer.
pub struct Encoder {
    pub tokenizer: Tokenizer,
    pub clip: ClipTextModel,
}

/// The text encoders of a model, in the order of their concatenated embeddings.
pub struct TextEncoder {
    encoders: Vec<Encoder>,
    declaration: &'static Declaration,
    device: Device,
}

/// The LoRA of the text encoders: one set per encoder, None if the LoRA has no part for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextAdapters(Vec<Option<AdapterSet>>);

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

    /// Conditioning of B prompts: `[B, L, D]`, and `[B, P]` if the family pools; no time_ids. `clip_skip` is counted
    /// as in diffusers: 0 is the family's own layer, n the output of the block n before it. `adapters`: the LoRA of
    /// the prompts' side.
    pub fn encode_prompts(
        &self,
        prompts: &[&str],
        clip_skip: usize,
        adapters: Option<&TextAdapters>,
    ) -> Result<Conditioning> {
        let encoded = self.encoders.iter().enumerate().map(|(place, encoder)| {
            let ids = encoder.tokenizer.encode(prompts)?.f_to_device(self.device)?;
            let set = adapters.and_then(|adapters| adapters.0.get(place).copied().flatten());
            Ok(Encoded { clip: &encoder.clip, output: encoder.clip.forward(&ids, set)? })
        });
        (self.declaration.encode)(&encoded.collect::<Result<Vec<_>>>()?, clip_skip)
    }

    /// Attaches the text encoder parts of a LoRA. Several can be attached; a call of `encode_prompts` uses one.
    pub fn attach(&mut self, lora: &Lora) -> Result<TextAdapters> {
        let encoders = self.encoders.iter_mut().zip(Network::TEXT_ENCODERS);
        encoders
            .map(|(encoder, network)| lora.attach(network, &mut encoder.clip))
            .collect::<Result<_>>()
            .map(TextAdapters)
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        let parameters = self.encoders.iter().flat_map(|encoder| encoder.clip.named_parameters());
        parameters.map(|(_, tensor)| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum()
    }

    pub fn encoders(&self) -> &[Encoder] {
        &self.encoders
    }

    /// Ids per prompt, with start, end and padding.
    pub fn length(&self) -> i64 {
        self.encoders.first().map_or(0, |encoder| encoder.tokenizer.length())
    }

    /// Tokens of `prompt` cut off by the encoder with the shortest limit. 0 for nearly every prompt.
    pub fn tokens_cut(&self, prompt: &str) -> Result<usize> {
        let mut cut = self.encoders.iter().map(|encoder| encoder.tokenizer.tokens_cut(prompt));
        cut.try_fold(0, |most, cut| Ok(most.max(cut?)))
    }
}
