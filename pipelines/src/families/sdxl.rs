//! Stable Diffusion XL (arXiv 2307.01952): CLIP-L and OpenCLIP-bigG side by side, the pooled embedding of the second, and
//! the picture's sizes (docs/methods.md 0.5).

use super::declaration::{Declaration, SingleFileLayout, TextPart, Variant};
use super::encoded::Encoded;
use super::unet::{UNET, discrete};
use crate::conditioning::{Conditioning, POOLED_PROMPT_EMBEDS, PROMPT_EMBEDS, TIME_IDS};
use crate::error::Result;
use crate::models::ClipTextConfig;
use crate::network::Architecture;
use crate::schedulers::PredictionType;
use tch::Tensor;

pub(super) const DECLARATION: Declaration = Declaration {
    key: "sdxl",
    pipeline_class: "StableDiffusionXLPipeline",
    card_tag: "stable-diffusion-xl",
    context_width: 2048,
    network: UNET,
    text: &[
        TextPart {
            encoder: "text_encoder",
            class: "CLIPTextModel",
            tokenizer: "tokenizer",
            pad: "<|endoftext|>",
            prefixes: &["conditioner.embedders.0.transformer."],
            openclip: false,
        },
        TextPart {
            encoder: "text_encoder_2",
            class: "CLIPTextModelWithProjection",
            tokenizer: "tokenizer_2",
            // OpenCLIP pads with id 0.
            pad: "!",
            prefixes: &["conditioner.embedders.1.model."],
            openclip: true,
        },
    ],
    conditioning: &[PROMPT_EMBEDS, POOLED_PROMPT_EMBEDS, TIME_IDS],
    encode,
    layers_before_last: 1,
    check,
    defaults: &[
        ("sample", "guidance_scale", "5.0"),
        ("safeguard", "mu", "0.6"),
        ("reference", "divergence_limit", "0.002"),
        ("npo", "beta", "2000.0"),
        ("inpo", "beta", "5000.0"),
        ("smpo", "beta", "5000.0"),
        ("dmpo", "beta", "6000.0"),
        ("self_npo", "guidance", "-5.0"),
        ("spo", "candidates", "2"),
        ("spo", "threshold", "0.4"),
        ("spo", "denoise_ahead", "3"),
    ],
    index_entries: &[],
    zeros_for_empty_prompt: Some(true),
    corrects_scheduler: false,
    process: discrete,
    single_file: SingleFileLayout {
        descriptions: include_str!("../../assets/standard/sdxl.json"),
        marks: &[
            ("input_blocks.0.0.weight", Some(4)),
            ("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", None),
            ("input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", Some(2048)),
            ("label_emb.0.0.weight", Some(2816)),
        ],
        has_unused_text: false,
        predicts_velocity: None,
    },
    variants: &[
        Variant {
            prediction: PredictionType::Epsilon,
            name: "Stable Diffusion XL",
            architecture: "stable-diffusion-xl-v1-base",
            lora_header: &[
                ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora"),
                ("ss_base_model_version", "sdxl_base_v1-0"),
            ],
            native_side: None,
            markers: None,
            yaml: None,
        },
        Variant {
            prediction: PredictionType::VPrediction,
            name: "Stable Diffusion XL (v-prediction)",
            architecture: "stable-diffusion-xl-v1-base",
            lora_header: &[
                ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora"),
                ("modelspec.prediction_type", "v"),
                ("ss_base_model_version", "sdxl_base_v1-0"),
            ],
            native_side: None,
            markers: Some(["v_pred", "ztsnr"]),
            yaml: None,
        },
    ],
};

/// Numbers of [`crate::conditioning::PictureSizes`].
const SIZES: i64 = 6;

fn check(network: &dyn Architecture, text: &[ClipTextConfig]) -> Result<()> {
    let file = network.file();
    let width: i64 = text.iter().map(|text| text.hidden_size).sum();
    if width != network.context_width() {
        let widths: Vec<String> = text.iter().map(|text| text.hidden_size.to_string()).collect();
        let expected = format!("{width}, the hidden sizes of the text encoders ({}) together", widths.join(" + "));
        return Err(file.conflict("cross_attention_dim", expected));
    }
    let Some(pooled) = text.last().and_then(|text| text.projection) else {
        let expected = "[\"CLIPTextModelWithProjection\"]: SDXL's second encoder projects its pooled output";
        return match text.last() {
            Some(text) => Err(text.file().conflict("architectures", expected)),
            None => unreachable!("two encoders are declared"),
        };
    };
    if !network.conditioning().contains(&TIME_IDS) {
        return Err(file.conflict("addition_embed_type", "\"text_time\", as every SDXL UNet has it"));
    }
    let time_width = file.size("addition_time_embed_dim", None)?;
    let input = pooled + SIZES * time_width;
    if file.size("projection_class_embeddings_input_dim", None)? != input {
        let expected = format!(
            "{input}: the pooled embedding's {pooled} and {SIZES} time_ids of {time_width}, the addition_time_embed_dim"
        );
        return Err(file.conflict("projection_class_embeddings_input_dim", expected));
    }
    Ok(())
}

/// The output of the block `clip_skip` before the penultimate one, without norm; the pooled output is always that of
/// the last.
fn encode(encoded: &[Encoded], clip_skip: usize) -> Result<Conditioning> {
    let before_last = DECLARATION.layers_before_last + clip_skip;
    let states = encoded.iter().map(|text| text.hidden_state(before_last)).collect::<Result<Vec<_>>>()?;
    let pooled = encoded.last().map(|text| text.output.pooled.shallow_clone());
    let prompt = (PROMPT_EMBEDS, Tensor::f_cat(&states, -1)?); // [B, L, D_1 + D_2]
    Ok(Conditioning::new([prompt].into_iter().chain(pooled.map(|pooled| (POOLED_PROMPT_EMBEDS, pooled)))))
}
