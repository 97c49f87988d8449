//! Stable Diffusion 2: Stable Diffusion 1 with OpenCLIP-H as text encoder, in models that predict noise and in models of 768
//! pixels that predict velocity.

use super::declaration::{Declaration, SingleFileLayout, TextPart, Variant};
use super::layout::NETWORK;
use super::sd1;
use crate::error::Result;
use crate::schedulers::PredictionType;
use crate::weights::TensorFile;
use tch::Kind;

pub(super) const DECLARATION: Declaration = Declaration {
    key: "sd2",
    context_width: 1024,
    text: &[TextPart {
        encoder: "text_encoder",
        class: "CLIPTextModel",
        tokenizer: "tokenizer",
        // OpenCLIP pads with id 0.
        pad: "!",
        prefixes: &["cond_stage_model.model.", "conditioner.embedders.0.model."],
        openclip: true,
    }],
    single_file: SingleFileLayout {
        descriptions: include_str!("../../assets/standard/sd2.json"),
        marks: &[
            ("input_blocks.0.0.weight", Some(4)),
            ("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", Some(1024)),
            ("label_emb.0.0.weight", None),
        ],
        has_unused_text: true,
        predicts_velocity: Some(spread_of_velocity),
    },
    variants: &[
        Variant {
            prediction: PredictionType::Epsilon,
            name: "Stable Diffusion 2",
            architecture: "stable-diffusion-v2-512",
            lora_header: &[
                ("modelspec.architecture", "stable-diffusion-v2-512/lora"),
                ("ss_base_model_version", "sd_v2"),
                ("ss_v2", "True"),
            ],
            native_side: None,
            markers: None,
            yaml: None,
        },
        Variant {
            prediction: PredictionType::VPrediction,
            name: "Stable Diffusion 2 (v-prediction)",
            architecture: "stable-diffusion-v2-768-v",
            lora_header: &[
                ("modelspec.architecture", "stable-diffusion-v2-768-v/lora"),
                ("ss_base_model_version", "sd_v2_v"),
                ("ss_v2", "True"),
            ],
            native_side: Some(96),
            markers: None,
            yaml: Some(include_str!("../../assets/standard/sd2-v.yaml")),
        },
    ],
    ..sd1::DECLARATION
};

/// Spread of the biases from which on a network predicts velocity (ComfyUI's rule).
const VELOCITY_SPREAD: f64 = 0.09;

fn spread_of_velocity(file: &TensorFile) -> Result<bool> {
    let name = format!("{NETWORK}output_blocks.11.1.transformer_blocks.0.norm1.bias");
    match file.shape(&name).is_some() && file.not_floating(&name).is_none() {
        true => Ok(file.tensor(&name)?.f_to_kind(Kind::Double)?.f_std(false)?.double_value(&[]) > VELOCITY_SPREAD),
        false => Ok(false),
    }
}
