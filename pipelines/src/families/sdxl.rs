//! Stable Diffusion XL (arXiv 2307.01952): CLIP-L and OpenCLIP-bigG side by side, the pooled embedding of the second, and
//! the picture's sizes (docs/methods.md 0.5).

use super::text::Encoded;
use super::{Declaration, Family, TextPart};
use crate::conditioning::{Conditioning, POOLED_PROMPT_EMBEDS, PROMPT_EMBEDS, TIME_IDS};
use crate::error::Result;
use crate::models::{ClipTextConfig, UNetConfig};
use crate::schedulers::PredictionType;
use tch::Tensor;

pub(super) const DECLARATION: Declaration = Declaration {
    pipeline_class: "StableDiffusionXLPipeline",
    card_tag: "stable-diffusion-xl",
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
    conditioning_names: &[PROMPT_EMBEDS, POOLED_PROMPT_EMBEDS, TIME_IDS],
    text: &[
        TextPart { encoder: "text_encoder", class: "CLIPTextModel", tokenizer: "tokenizer" },
        TextPart { encoder: "text_encoder_2", class: "CLIPTextModelWithProjection", tokenizer: "tokenizer_2" },
    ],
    index_entries: &[],
    zeros_for_empty_prompt: Some(true),
    corrects_scheduler: false,
    layers_before_last: 1,
    family,
    check,
    conditioning,
};

/// Original height and width, crop top and left, target height and width.
const SIZES: i64 = 6;

fn family(_: &UNetConfig, prediction: PredictionType) -> Family {
    match prediction {
        PredictionType::Epsilon => Family::Sdxl,
        PredictionType::VPrediction => Family::SdxlV,
    }
}

fn check(unet: &UNetConfig, text: &[ClipTextConfig]) -> Result<()> {
    let file = unet.file();
    let width: i64 = text.iter().map(|text| text.hidden_size).sum();
    if width != unet.cross_attention_dim {
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
    let Some(added) = unet.text_time else {
        return Err(file.conflict("addition_embed_type", "\"text_time\", as every SDXL UNet has it"));
    };
    let input = pooled + SIZES * added.time_width;
    if added.input_width != input {
        let expected = format!(
            "{input}: the pooled embedding's {pooled} and {SIZES} time_ids of {}, the addition_time_embed_dim",
            added.time_width
        );
        return Err(file.conflict("projection_class_embeddings_input_dim", expected));
    }
    Ok(())
}

/// The output of the block `clip_skip` before the penultimate one, not normed; the pooled output is always the last's.
fn conditioning(encoded: &[Encoded], clip_skip: usize) -> Result<Conditioning> {
    let before_last = DECLARATION.layers_before_last + clip_skip;
    let states = encoded.iter().map(|text| text.hidden_state(before_last)).collect::<Result<Vec<_>>>()?;
    let pooled = encoded.last().map(|text| text.output.pooled.shallow_clone());
    let prompt = (PROMPT_EMBEDS, Tensor::f_cat(&states, -1)?); // [B, L, D_1 + D_2]
    Ok(Conditioning::new([prompt].into_iter().chain(pooled.map(|pooled| (POOLED_PROMPT_EMBEDS, pooled)))))
}
