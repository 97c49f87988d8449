//! The trained network.

use pipelines::families::Denoiser;
use pipelines::lora::{Lora, LoraWeights};
use pipelines::models::AdapterSet;
use tch::{Kind, Tensor};

/// The trained network: a full UNet, or a frozen one with LoRA adapters.
pub struct Policy {
    pub denoiser: Denoiser,
    /// The adapters of the forward pass; `None` in a full fine-tune.
    pub adapters: Option<AdapterSet>,
    pub lora: Option<LoraWeights>,
    /// The text encoder part of `lora.init`: applied while prompts are encoded, not trained, and part of every LoRA
    /// that the run writes.
    pub text_lora: Lora,
    /// Trained tensors by their names in the file, sorted: leaves that the optimizer changes in place.
    pub trainable: Vec<(String, Tensor)>,
}

impl Policy {
    /// Data type of the trained weights.
    pub fn kind(&self) -> Kind {
        self.trainable.first().map_or(Kind::Float, |(_, t)| t.kind())
    }
}
