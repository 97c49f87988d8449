//! Stable Diffusion 1 (arXiv 2112.10752), and small models of the same layout: one CLIP-L, whose token embeddings are
//! the only conditioning.

use super::declaration::{Declaration, SingleFileLayout, TextPart, Variant};
use super::encoded::Encoded;
use super::unet::{UNET, discrete};
use crate::conditioning::{Conditioning, PROMPT_EMBEDS, TIME_IDS};
use crate::error::Result;
use crate::models::ClipTextConfig;
use crate::network::Architecture;
use crate::schedulers::PredictionType;

pub(super) const DECLARATION: Declaration = Declaration {
    key: "sd1",
    pipeline_class: "StableDiffusionPipeline",
    card_tag: "stable-diffusion",
    context_width: 768,
    network: UNET,
    text: &[TextPart {
        encoder: "text_encoder",
        class: "CLIPTextModel",
        tokenizer: "tokenizer",
        pad: "<|endoftext|>",
        prefixes: &["cond_stage_model.transformer."],
        openclip: false,
    }],
    conditioning: &[PROMPT_EMBEDS],
    encode,
    layers_before_last: 0,
    check,
    defaults: &[("sample", "guidance_scale", "7.5")],
    // Without it diffusers requires the checker that [null, null] has just marked as absent.
    index_entries: &[("requires_safety_checker", false)],
    zeros_for_empty_prompt: None,
    corrects_scheduler: true,
    process: discrete,
    single_file: SingleFileLayout {
        descriptions: include_str!("../../assets/standard/sd1.json"),
        marks: &[
            ("input_blocks.0.0.weight", Some(4)),
            ("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", Some(768)),
            ("label_emb.0.0.weight", None),
        ],
        has_unused_text: false,
        predicts_velocity: None,
    },
    variants: &[Variant {
        prediction: PredictionType::Epsilon,
        name: "Stable Diffusion 1",
        architecture: "stable-diffusion-v1",
        lora_header: &[("modelspec.architecture", "stable-diffusion-v1/lora"), ("ss_base_model_version", "sd_v1")],
        native_side: None,
        markers: None,
        yaml: None,
    }],
};

/// Widths of one encoder and of a network without pooled embeddings.
pub(super) fn check(network: &dyn Architecture, text: &[ClipTextConfig]) -> Result<()> {
    if network.conditioning().contains(&TIME_IDS) {
        let expected = "null: a StableDiffusionPipeline has no pooled embeddings (SDXL's UNet?)";
        return Err(network.file().conflict("addition_embed_type", expected));
    }
    match text.first() {
        Some(text) if text.hidden_size != network.context_width() => {
            let expected = format!("{}, the hidden_size of the text encoder", text.hidden_size);
            Err(network.file().conflict("cross_attention_dim", expected))
        }
        _ => Ok(()),
    }
}

/// The output of the block `clip_skip` before the last, with the final norm.
pub(super) fn encode(encoded: &[Encoded], clip_skip: usize) -> Result<Conditioning> {
    let [text] = encoded else { unreachable!("one encoder is declared") };
    if clip_skip == 0 {
        return Ok(Conditioning::of_prompt(text.output.last_hidden_state.shallow_clone()));
    }
    let state = text.hidden_state(DECLARATION.layers_before_last + clip_skip)?;
    Ok(Conditioning::of_prompt(text.clip.final_norm(state)))
}
