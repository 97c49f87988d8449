//! Model families: which parts a folder has, how conditioning is put together, what the network predicts. The only
//! place that knows a family's name.
//!
//! A family is one [`Declaration`]: `sd.rs` and `sdxl.rs` hold one each. Everybody else asks a [`ModelFolder`], a
//! [`TextEncoder`] or a [`Denoiser`].

mod combination;
mod configs;
mod denoiser;
mod export;
mod files;
mod folder;
mod layout;
mod mixed;
mod model_weights;
mod recognise;
mod relatives;
mod sd;
mod sdxl;
mod single_file;
mod standard;
mod standard_lora;
mod text;

pub use combination::{Change, Combination, Difference, Extracted, Layers};
pub use configs::Configs;
pub use denoiser::Denoiser;
pub use export::{Export, Labels, write_unet};
pub use files::ModelFiles;
pub use folder::ModelFolder;
pub use mixed::UnetTerm;
pub use model_weights::ModelWeights;
pub use standard_lora::standard_of_lora;
pub use text::{Encoder, TextAdapters, TextEncoder};

use crate::conditioning::{Conditioning, TIME_IDS};
use crate::error::Result;
use crate::models::{ClipTextConfig, UNetConfig};
use crate::schedulers::PredictionType;
use text::Encoded;

/// The family whose cross-attention takes prompt embeddings of that width; None where there is none that people share.
pub fn family_of_context_width(width: i64) -> Option<&'static str> {
    match width {
        768 => Some("Stable Diffusion 1"),
        1024 => Some("Stable Diffusion 2"),
        1280 => Some("the SDXL refiner"),
        2048 => Some("SDXL"),
        _ => None,
    }
}

/// The families that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Stable Diffusion 1.x, and small models of the same layout
    Sd1,
    /// Stable Diffusion 2.x (OpenCLIP-H as text encoder)
    Sd2,
    /// Stable Diffusion 2.x that predicts velocity
    Sd2V,
    /// Stable Diffusion XL
    Sdxl,
    /// Stable Diffusion XL fine-tuned to predict velocity
    SdxlV,
}

/// What a family says of itself: data and two functions, read by everything in this folder.
#[derive(Debug)]
struct Declaration {
    /// `_class_name` of model_index.json.
    pipeline_class: &'static str,
    /// The tag of a model card that names the family.
    card_tag: &'static str,
    /// Values of settings that were published for the family, where they differ from those of most models:
    /// table (of a method's keys: the method's name), key, TOML literal.
    defaults: &'static [(&'static str, &'static str, &'static str)],
    /// Names of the tensors that the network reads beside latents and noise levels ([`Conditioning`]).
    conditioning_names: &'static [&'static str],
    /// Text encoders in the order in which their embeddings lie side by side.
    text: &'static [TextPart],
    /// What model_index.json needs beside its components.
    index_entries: &'static [(&'static str, bool)],
    /// `force_zeros_for_empty_prompt` where model_index.json does not say it; None: the pipeline has no such key.
    zeros_for_empty_prompt: Option<bool>,
    /// Whether the pipeline sets steps_offset 1 and clip_sample false in the model's own scheduler.
    corrects_scheduler: bool,
    /// Blocks between the last and the one whose output the UNet is told.
    layers_before_last: usize,
    family: fn(&UNetConfig, PredictionType) -> Family,
    /// Whether a UNet fits the text encoders.
    check: fn(&UNetConfig, &[ClipTextConfig]) -> Result<()>,
    /// What the UNet is told of prompts: one output a text encoder, `clip_skip` as diffusers counts it.
    conditioning: fn(&[Encoded], usize) -> Result<Conditioning>,
}

/// A text encoder and its tokenizer: the folders they lie in, and the encoder's class.
#[derive(Debug)]
struct TextPart {
    encoder: &'static str,
    class: &'static str,
    tokenizer: &'static str,
}

const DECLARATIONS: [&Declaration; 2] = [&sd::DECLARATION, &sdxl::DECLARATION];

/// What the side of guidance without a prompt is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptySide {
    /// The encoding of "".
    Encoded,
    /// Zeros in place of all embeddings (`force_zeros_for_empty_prompt`).
    Zeros,
}

impl Family {
    fn declaration(self) -> &'static Declaration {
        match self {
            Self::Sd1 | Self::Sd2 | Self::Sd2V => &sd::DECLARATION,
            Self::Sdxl | Self::SdxlV => &sdxl::DECLARATION,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sd1 => "Stable Diffusion 1",
            Self::Sd2 => "Stable Diffusion 2",
            Self::Sd2V => "Stable Diffusion 2 (v-prediction)",
            Self::Sdxl => "Stable Diffusion XL",
            Self::SdxlV => "Stable Diffusion XL (v-prediction)",
        }
    }

    /// diffusers' pipeline class for models of the family.
    pub fn pipeline_class(self) -> &'static str {
        self.declaration().pipeline_class
    }

    /// The tag of a model card that names the family.
    pub fn card_tag(self) -> &'static str {
        self.declaration().card_tag
    }

    /// The scale of classifier-free guidance where nobody says one, as diffusers' pipelines have it.
    pub fn guidance_scale(self) -> f64 {
        self.default("sample", "guidance_scale").and_then(|literal| literal.parse().ok()).unwrap_or(1.0)
    }

    /// The family's own default of a setting as a TOML literal, where it has one: `("sample", "guidance_scale")`,
    /// `("reference", "divergence_limit")`. Keys of a method stand under its name: `("npo", "beta")`.
    pub fn default(self, table: &str, key: &str) -> Option<&'static str> {
        let own = self.declaration().defaults.iter().find(|(of, name, _)| (*of, *name) == (table, key));
        own.map(|(_, _, literal)| *literal)
    }

    /// Names of the tensors that the network reads beside latents and noise levels.
    pub fn conditioning_names(self) -> &'static [&'static str] {
        self.declaration().conditioning_names
    }

    /// Whether the network is told the sizes of pictures (`time_ids`).
    pub fn tells_sizes(self) -> bool {
        self.conditioning_names().contains(&TIME_IDS)
    }

    /// The name of the family's architecture in the header of a checkpoint (`modelspec.architecture`).
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Sd1 => "stable-diffusion-v1",
            Self::Sd2 => "stable-diffusion-v2-512",
            Self::Sd2V => "stable-diffusion-v2-768-v",
            Self::Sdxl | Self::SdxlV => "stable-diffusion-xl-v1-base",
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
            Self::Sdxl => &[
                ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora"),
                ("ss_base_model_version", "sdxl_base_v1-0"),
            ],
            Self::SdxlV => &[
                ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora"),
                ("modelspec.prediction_type", "v"),
                ("ss_base_model_version", "sdxl_base_v1-0"),
            ],
        }
    }
}
