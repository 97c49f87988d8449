//! Model families: which parts a folder has, how conditioning is put together, what the network predicts. The only
//! place that knows a family's name.

mod denoiser;
mod folder;
mod text;

pub use denoiser::Denoiser;
pub use folder::ModelFolder;
pub use text::TextEncoder;

use crate::schedulers::PredictionType;

/// The families that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Stable Diffusion 1.x, and small models of the same layout
    Sd1,
    /// Stable Diffusion 2.x (OpenCLIP-H as text encoder)
    Sd2,
    /// Stable Diffusion 2.x that predicts velocity
    Sd2V,
}

impl Family {
    /// The family of a `StableDiffusionPipeline`, told by the width of its prompt embeddings.
    fn of(cross_attention_dim: i64, prediction: PredictionType) -> Self {
        match (cross_attention_dim, prediction) {
            (1024, PredictionType::VPrediction) => Self::Sd2V,
            (1024, PredictionType::Epsilon) => Self::Sd2,
            _ => Self::Sd1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sd1 => "Stable Diffusion 1",
            Self::Sd2 => "Stable Diffusion 2",
            Self::Sd2V => "Stable Diffusion 2 (v-prediction)",
        }
    }

    /// The header of a kohya LoRA file: A1111 tells the base model by it and hides LoRAs of others.
    pub fn lora_header(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Sd1 => &[("modelspec.architecture", "stable-diffusion-v1/lora"), ("ss_base_model_version", "sd_v1")],
            Self::Sd2 => &[
                ("modelspec.architecture", "stable-diffusion-v2-512/lora"),
                ("ss_base_model_version", "sd_v2"),
                ("ss_v2", "True"),
            ],
            Self::Sd2V => &[
                ("modelspec.architecture", "stable-diffusion-v2-768-v/lora"),
                ("ss_base_model_version", "sd_v2_v"),
                ("ss_v2", "True"),
            ],
        }
    }
}
