//! Names of OpenCLIP's text encoders (SD2.x, the second one of SDXL). CLIP-L keeps transformers' names in every file.

use super::form::Form;

const SINGLE: [(&str, &str, Form); 5] = [
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight", Form::Same),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding", Form::Same),
    ("text_model.final_layer_norm.weight", "ln_final.weight", Form::Same),
    ("text_model.final_layer_norm.bias", "ln_final.bias", Form::Same),
    ("text_projection.weight", "text_projection", Form::Transposed),
];
const BLOCK: [(&str, &str); 5] = [
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("self_attn.out_proj.", "attn.out_proj."),
];
/// The rows of `in_proj` in their order.
const FUSED: [&str; 3] = ["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."];

/// The OpenCLIP name of a parameter of transformers' CLIP text encoder, and its form there; None without a place in
/// the layout.
pub fn openclip_place(name: &str) -> Option<(String, Form)> {
    if let Some((_, theirs, form)) = SINGLE.iter().find(|(ours, ..)| *ours == name) {
        return Some(((*theirs).to_string(), *form));
    }
    let (block, rest) = name.strip_prefix("text_model.encoder.layers.")?.split_once('.')?;
    let block = format!("transformer.resblocks.{block}");
    for (third, ours) in FUSED.iter().enumerate() {
        if let Some(end) = rest.strip_prefix(ours) {
            return Some((format!("{block}.attn.in_proj_{end}"), Form::Third(third as i64)));
        }
    }
    let (ours, theirs) = BLOCK.iter().find(|(ours, _)| rest.starts_with(ours))?;
    Some((format!("{block}.{theirs}{}", rest.strip_prefix(ours)?), Form::Same))
}
