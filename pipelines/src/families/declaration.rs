//! Declaration of a family: data and a few functions, read by everything in this folder.

use super::encoded::Encoded;
use crate::conditioning::{Conditioning, TIME_IDS};
use crate::error::{Error, Result};
use crate::models::{ClipTextConfig, ConfigFile};
use crate::network::Architecture;
use crate::process::Process;
use crate::schedulers::{PredictionType, SchedulerConfig};
use crate::weights::TensorFile;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Tokenizers that are read.
const TOKENIZERS: &[&str] = &["CLIPTokenizer", "CLIPTokenizerFast"];
/// Names of weight files of diffusers' and of transformers' components.
pub(super) const DIFFUSERS: &str = "diffusion_pytorch_model";
pub(super) const TRANSFORMERS: &str = "model";

/// A family of models. Several may share a pipeline class and differ in the width of prompt embeddings.
#[derive(Debug)]
pub struct Declaration {
    /// Name in headers of exported checkpoints, for example `sd1`.
    pub(super) key: &'static str,
    /// `_class_name` of model_index.json.
    pub(super) pipeline_class: &'static str,
    /// The tag of a model card that names the family.
    pub(super) card_tag: &'static str,
    /// D of the prompt embeddings in models of full size.
    pub(super) context_width: i64,
    pub(super) network: NetworkPart,
    /// Text encoders in the order of their concatenated embeddings.
    pub(super) text: &'static [TextPart],
    /// Names of the network's inputs besides latents and noise levels.
    pub(super) conditioning: &'static [&'static str],
    /// Conditioning of prompts from one output per text encoder; `clip_skip` is counted as in diffusers.
    pub(super) encode: fn(&[Encoded], usize) -> Result<Conditioning>,
    /// Number of blocks after the one whose output is the prompt embedding.
    pub(super) layers_before_last: usize,
    /// Whether a network fits the text encoders.
    pub(super) check: fn(&dyn Architecture, &[ClipTextConfig]) -> Result<()>,
    /// Published values of settings for the family that differ from those of most models: table (for keys of a
    /// method: its name), key, TOML literal.
    pub(super) defaults: &'static [(&'static str, &'static str, &'static str)],
    /// Entries of model_index.json besides its components.
    pub(super) index_entries: &'static [(&'static str, bool)],
    /// `force_zeros_for_empty_prompt` if model_index.json does not state it; `None`: the pipeline has no such key.
    pub(super) zeros_for_empty_prompt: Option<bool>,
    /// Whether the pipeline sets steps_offset 1 and clip_sample false in the model's own scheduler.
    pub(super) corrects_scheduler: bool,
    /// The noise process that a scheduler_config.json describes.
    pub(super) process: fn(&SchedulerConfig) -> Box<dyn Process>,
    pub(super) single_file: SingleFileLayout,
    /// One per prediction type of its networks.
    pub(super) variants: &'static [Variant],
}

/// The denoiser of a family.
#[derive(Debug)]
pub(super) struct NetworkPart {
    /// Its folder, and the prefix of its layers in LoRA files.
    pub component: &'static str,
    /// Its class in diffusers.
    pub class: &'static str,
    /// Refuses the config.json of another kind of model; with the channels of the VAE's latents.
    pub refuse: fn(&ConfigFile, i64) -> Result<()>,
    pub describe: fn(ConfigFile) -> Result<Arc<dyn Architecture>>,
    /// Names the kind of model whose weights do not fit its description.
    pub explain: fn(Error) -> Error,
}

/// A text encoder and its tokenizer: their folders, the encoder's class, its place in a single file.
#[derive(Debug)]
pub(super) struct TextPart {
    pub encoder: &'static str,
    pub class: &'static str,
    pub tokenizer: &'static str,
    /// The token that pads prompts.
    pub pad: &'static str,
    /// Prefixes in single files; the first is written.
    pub prefixes: &'static [&'static str],
    /// OpenCLIP's names and fused projections in single files; else transformers' own.
    pub openclip: bool,
}

/// Single-file checkpoints of a family.
#[derive(Debug)]
pub(super) struct SingleFileLayout {
    /// The configurations of all components, as JSON by file name.
    pub descriptions: &'static str,
    /// Tensors that identify the family: name, and the second size; `None`: it is absent.
    pub marks: &'static [(&'static str, Option<i64>)],
    /// Whether files hold one block of OpenCLIP more than the model uses, a projection and a scale.
    pub has_unused_text: bool,
    /// Whether a file without any marker predicts velocity, by its weights.
    pub predicts_velocity: Option<fn(&TensorFile) -> Result<bool>>,
}

/// Differences between the models of a family by prediction type.
#[derive(Debug)]
pub(super) struct Variant {
    pub prediction: PredictionType,
    /// Name in messages.
    pub name: &'static str,
    /// The architecture in the header of a checkpoint (`modelspec.architecture`).
    pub architecture: &'static str,
    /// The header of a kohya LoRA file: A1111 derives the base model from it and hides LoRAs of others.
    pub lora_header: &'static [(&'static str, &'static str)],
    /// Side of the latents if it differs from the descriptions.
    pub native_side: Option<i64>,
    /// Empty tensors that mark the prediction type and zero terminal SNR for other programs.
    pub markers: Option<[&'static str; 2]>,
    /// A configuration for A1111 beside the file.
    pub yaml: Option<&'static str>,
}

impl Declaration {
    /// Component and its implemented classes (none listed: the reader of the component decides).
    pub(super) fn parts(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut parts = vec![
            ("scheduler", vec![]),
            (self.network.component, vec![self.network.class]),
            ("vae", vec!["AutoencoderKL"]),
        ];
        for text in self.text {
            parts.extend([(text.encoder, vec![text.class]), (text.tokenizer, TOKENIZERS.to_vec())]);
        }
        parts
    }

    /// Components with weights, and the names of their files.
    pub(super) fn weights(&self) -> Vec<(&'static str, &'static str)> {
        let text = self.text.iter().map(|text| (text.encoder, TRANSFORMERS));
        text.chain([(self.network.component, DIFFUSERS), ("vae", DIFFUSERS)]).collect()
    }

    /// The variant of this prediction type; the first one if the family declares none.
    pub(super) fn family(&'static self, prediction: PredictionType) -> Family {
        let own = self.variants.iter().find(|variant| variant.prediction == prediction);
        Family { declaration: self, variant: own.unwrap_or(&self.variants[0]) }
    }
}

/// A family, and the prediction type of its networks.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub(super) declaration: &'static Declaration,
    pub(super) variant: &'static Variant,
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Family {
    /// Name in messages.
    pub fn name(&self) -> &'static str {
        self.variant.name
    }

    /// diffusers' pipeline class for models of the family.
    pub fn pipeline_class(&self) -> &'static str {
        self.declaration.pipeline_class
    }

    /// The tag of a model card that names the family.
    pub fn card_tag(&self) -> &'static str {
        self.declaration.card_tag
    }

    /// Default scale of classifier-free guidance, that of diffusers' pipelines.
    pub fn guidance_scale(&self) -> f64 {
        self.default("sample", "guidance_scale").and_then(|literal| literal.parse().ok()).unwrap_or(1.0)
    }

    /// The family's own default of a setting as a TOML literal, if any: `("sample", "guidance_scale")`,
    /// `("reference", "divergence_limit")`. Keys of a method are under its name: `("npo", "beta")`.
    pub fn default(&self, table: &str, key: &str) -> Option<&'static str> {
        let own = self.declaration.defaults.iter().find(|(of, name, _)| (*of, *name) == (table, key));
        own.map(|(_, _, literal)| *literal)
    }

    /// Names of the network's inputs besides latents and noise levels.
    pub fn conditioning_names(&self) -> &'static [&'static str] {
        self.declaration.conditioning
    }

    /// Whether the network has the sizes of pictures as an input.
    pub fn tells_sizes(&self) -> bool {
        self.conditioning_names().contains(&TIME_IDS)
    }

    /// The header of a kohya LoRA file.
    pub fn lora_header(&self) -> &'static [(&'static str, &'static str)] {
        self.variant.lora_header
    }
}

/// The negative side of guidance without a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmptySide {
    /// The encoding of "".
    #[default]
    Encoded,
    /// Zeros in place of all embeddings (`force_zeros_for_empty_prompt`).
    Zeros,
}
