//! Prompts encoded once: they repeat over seeds, the negative prompt over all pictures.

use anyhow::{Context, Result};
use pipelines::Conditioning;
use pipelines::families::{EmptySide, TextAdapters, TextEncoder};
use pipelines::lora::Lora;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use tch::Device;

/// Prompts kept while the text encoder is loaded: 77 x 768 floats are 0.23 MiB, SDXL's 77 x 2048 0.6.
const REMEMBERED: usize = 256;

/// A side of guidance, with its own LoRA on the text encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Positive,
    Negative,
}

/// A text encoder with a cache, which can be freed once every prompt is encoded.
pub struct PromptMemory {
    /// None: every required prompt is cached.
    text: Option<TextEncoder>,
    clip_skip: usize,
    empty_side: EmptySide,
    adapters: Option<TextAdapters>,
    /// None: the negative side has the LoRA of the positive side.
    negative_adapters: Option<TextAdapters>,
    known: RefCell<HashMap<(String, Side), Conditioning>>,
}

impl PromptMemory {
    /// `clip_skip` of `TextEncoder::encode_prompts`, for positive prompts only, as in diffusers.
    pub fn new(text: TextEncoder, clip_skip: usize, empty_side: EmptySide) -> Self {
        let known = RefCell::default();
        Self { text: Some(text), clip_skip, empty_side, adapters: None, negative_adapters: None, known }
    }

    /// Applies the text encoder part of a LoRA to later prompts of both sides.
    pub fn wear(&mut self, lora: &Lora) -> Result<()> {
        self.adapters = Some(self.text.as_mut().context("the text encoder is gone")?.attach(lora)?);
        self.known.borrow_mut().clear();
        Ok(())
    }

    /// Applies the text encoder part of another LoRA to later negative prompts.
    pub fn wear_on_negative_side(&mut self, lora: &Lora) -> Result<()> {
        self.negative_adapters = Some(self.text.as_mut().context("the text encoder is gone")?.attach(lora)?);
        self.known.borrow_mut().clear();
        Ok(())
    }

    /// The text encoder, while it is loaded.
    pub fn text(&self) -> Option<&TextEncoder> {
        self.text.as_ref()
    }

    /// Encodes every distinct prompt and the negative one, then frees the text encoder, if the embeddings take less
    /// memory than the encoder. Afterwards only these prompts are available. Calls `on_prompt(i)` after the i-th; its
    /// error stops.
    pub fn encode_ahead(
        &mut self,
        prompts: &[&str],
        negative: Option<&str>,
        on_prompt: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let Some(text) = &self.text else { return Ok(()) };
        let distinct: BTreeSet<&str> = prompts.iter().copied().collect();
        let first = self.negative(negative)?;
        if (distinct.len() + 1) * first.bytes() >= text.bytes() {
            return Ok(());
        }
        let mut all = HashMap::new();
        for (index, prompt) in distinct.into_iter().enumerate() {
            // Results are kept in main memory, which leaves device memory to the networks.
            let encoded = self.encoded(prompt, Side::Positive)?;
            all.insert((prompt.to_string(), Side::Positive), encoded.map(|t| t.to_device(Device::Cpu)));
            on_prompt(index)?;
        }
        let encoded = self.encoded(negative.unwrap_or_default(), Side::Negative)?;
        all.insert(
            (negative.unwrap_or_default().to_string(), Side::Negative),
            encoded.map(|t| t.to_device(Device::Cpu)),
        );
        self.known = RefCell::new(all);
        self.text = None;
        Ok(())
    }

    /// One row for a prompt, encoded once.
    pub fn conditioning(&self, prompt: &str) -> Result<Conditioning> {
        self.encoded(prompt, Side::Positive)
    }

    /// One row for a negative prompt; without one, the default of the model's pipeline.
    pub fn negative(&self, prompt: Option<&str>) -> Result<Conditioning> {
        let encoded = self.encoded(prompt.unwrap_or_default(), Side::Negative)?;
        Ok(match (prompt, self.empty_side) {
            (None, EmptySide::Zeros) => encoded.without_prompt(),
            (None, EmptySide::Encoded) | (Some(_), _) => encoded,
        })
    }

    fn encoded(&self, prompt: &str, side: Side) -> Result<Conditioning> {
        let key = (prompt.to_string(), side);
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(known.shallow_clone());
        }
        let text = self.text.as_ref();
        let text =
            text.with_context(|| format!("the prompt {prompt:?} was not encoded before the text encoder was freed"))?;
        let (clip_skip, adapters) = match side {
            Side::Positive => (self.clip_skip, self.adapters.as_ref()),
            Side::Negative => (0, self.negative_adapters.as_ref().or(self.adapters.as_ref())),
        };
        let _frozen = tch::no_grad_guard();
        let conditioning = text.encode_prompts(&[prompt], clip_skip, adapters)?;
        let mut known = self.known.borrow_mut();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, conditioning.shallow_clone());
        Ok(conditioning)
    }
}
