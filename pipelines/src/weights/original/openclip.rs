//! Names of OpenCLIP: its text encoders (SD2.x, the second one of SDXL), and the vision tower of a whole CLIP. CLIP-L
//! keeps transformers' names in every checkpoint.

use super::form::Form;

const SINGLE: [(&str, &str, Form); 14] = [
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight", Form::Same),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding", Form::Same),
    ("text_model.final_layer_norm.weight", "ln_final.weight", Form::Same),
    ("text_model.final_layer_norm.bias", "ln_final.bias", Form::Same),
    ("text_projection.weight", "text_projection", Form::Transposed),
    ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight", Form::Same),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding", Form::Same),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding", Form::Same),
    ("vision_model.pre_layrnorm.weight", "visual.ln_pre.weight", Form::Same),
    ("vision_model.pre_layrnorm.bias", "visual.ln_pre.bias", Form::Same),
    ("vision_model.post_layernorm.weight", "visual.ln_post.weight", Form::Same),
    ("vision_model.post_layernorm.bias", "visual.ln_post.bias", Form::Same),
    ("visual_projection.weight", "visual.proj", Form::Transposed),
    ("logit_scale", "logit_scale", Form::Same),
];
/// Starts of the blocks' names in both towers.
const TOWERS: [(&str, &str); 2] =
    [("text_model.encoder.layers.", "transformer."), ("vision_model.encoder.layers.", "visual.transformer.")];
const BLOCK: [(&str, &str); 5] = [
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("self_attn.out_proj.", "attn.out_proj."),
];
/// The rows of `in_proj` in their order.
const FUSED: [&str; 3] = ["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."];

/// The OpenCLIP name of a parameter of transformers' CLIP, and its form there; None without a place in
/// the layout.
pub fn openclip_place(name: &str) -> Option<(String, Form)> {
    if let Some((_, theirs, form)) = SINGLE.iter().find(|(ours, ..)| *ours == name) {
        return Some(((*theirs).to_string(), *form));
    }
    let in_tower = |(ours, theirs): &(&str, &'static str)| Some((name.strip_prefix(ours)?, *theirs));
    let (inside, tower) = TOWERS.iter().find_map(in_tower)?;
    let (block, rest) = inside.split_once('.')?;
    let block = format!("{tower}resblocks.{block}");
    for (third, ours) in FUSED.iter().enumerate() {
        if let Some(end) = rest.strip_prefix(ours) {
            return Some((format!("{block}.attn.in_proj_{end}"), Form::Third(third as i64)));
        }
    }
    let (ours, theirs) = BLOCK.iter().find(|(ours, _)| rest.starts_with(ours))?;
    Some((format!("{block}.{theirs}{}", rest.strip_prefix(ours)?), Form::Same))
}
