//! Stable Diffusion 1 and 2 (arXiv 2112.10752): one CLIP, whose token embeddings are all that the UNet is told.

use super::text::Encoded;
use super::{Declaration, Family, TextPart};
use crate::conditioning::{Conditioning, PROMPT_EMBEDS};
use crate::error::Result;
use crate::models::{ClipTextConfig, UNetConfig};
use crate::schedulers::PredictionType;

pub(super) const DECLARATION: Declaration = Declaration {
    pipeline_class: "StableDiffusionPipeline",
    card_tag: "stable-diffusion",
    defaults: &[("sample", "guidance_scale", "7.5")],
    conditioning_names: &[PROMPT_EMBEDS],
    text: &[TextPart { encoder: "text_encoder", class: "CLIPTextModel", tokenizer: "tokenizer" }],
    // Without it diffusers asks for the checker that [null, null] has just marked as absent.
    index_entries: &[("requires_safety_checker", false)],
    zeros_for_empty_prompt: None,
    corrects_scheduler: true,
    layers_before_last: 0,
    family,
    check,
    conditioning,
};

/// Told by the width of the prompt embeddings: CLIP-L has 768, OpenCLIP-H 1024.
fn family(unet: &UNetConfig, prediction: PredictionType) -> Family {
    match (unet.cross_attention_dim, prediction) {
        (1024, PredictionType::VPrediction) => Family::Sd2V,
        (1024, PredictionType::Epsilon) => Family::Sd2,
        _ => Family::Sd1,
    }
}

fn check(unet: &UNetConfig, text: &[ClipTextConfig]) -> Result<()> {
    if unet.text_time.is_some() {
        let expected = "null: a StableDiffusionPipeline has no pooled embeddings (SDXL's UNet?)";
        return Err(unet.file().conflict("addition_embed_type", expected));
    }
    match text.first() {
        Some(text) if text.hidden_size != unet.cross_attention_dim => {
            let expected = format!("{}, the hidden_size of the text encoder", text.hidden_size);
            Err(unet.file().conflict("cross_attention_dim", expected))
        }
        _ => Ok(()),
    }
}

/// The output of the block `clip_skip` before the last, with the final norm.
fn conditioning(encoded: &[Encoded], clip_skip: usize) -> Result<Conditioning> {
    let [text] = encoded else { unreachable!("one encoder is declared") };
    if clip_skip == 0 {
        return Ok(Conditioning::of_prompt(text.output.last_hidden_state.shallow_clone()));
    }
    let state = text.hidden_state(DECLARATION.layers_before_last + clip_skip)?;
    Ok(Conditioning::of_prompt(text.clip.final_norm(state)))
}
