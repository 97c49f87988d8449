//! Names of the VAE, with the prefix `first_stage_model.` in a checkpoint and without one in a file of its own.

use super::form::Form;

const PARTS: [(&str, &str); 2] = [("conv_norm_out.", "norm_out."), ("conv_shortcut.", "nin_shortcut.")];
const ATTENTION: [(&str, &str, Form); 5] = [
    ("group_norm.", "norm.", Form::Same),
    ("to_q.", "q.", Form::Pointwise),
    ("to_k.", "k.", Form::Pointwise),
    ("to_v.", "v.", Form::Pointwise),
    ("to_out.0.", "proj_out.", Form::Pointwise),
];

/// The original name of a parameter of diffusers' VAE of `levels` levels, and its form there; None without a place in
/// the layout.
pub fn vae_place(name: &str, levels: usize) -> Option<(String, Form)> {
    if let Some((before, rest)) = name.split_once("mid_block.attentions.0.") {
        let (ours, theirs, form) = ATTENTION.iter().find(|(ours, ..)| rest.starts_with(ours))?;
        // Biases are vectors in both layouts.
        let form = if rest.ends_with(".weight") { *form } else { Form::Same };
        return Some((format!("{before}mid.attn_1.{theirs}{}", rest.strip_prefix(ours)?), form));
    }
    let parts: Vec<&str> = name.splitn(5, '.').collect();
    let index = |text: &str| text.parse::<usize>().ok();
    let mut found = match parts[..] {
        ["encoder", "down_blocks", i, "resnets", rest] => format!("encoder.down.{i}.block.{rest}"),
        ["encoder", "down_blocks", i, "downsamplers", rest] => {
            format!("encoder.down.{i}.downsample.{}", rest.strip_prefix("0.")?)
        }
        ["decoder", "up_blocks", i, "resnets", rest] => {
            format!("decoder.up.{}.block.{rest}", (levels - 1).checked_sub(index(i)?)?)
        }
        ["decoder", "up_blocks", i, "upsamplers", rest] => {
            format!("decoder.up.{}.upsample.{}", (levels - 1).checked_sub(index(i)?)?, rest.strip_prefix("0.")?)
        }
        [side @ ("encoder" | "decoder"), "mid_block", "resnets", i, rest] => {
            format!("{side}.mid.block_{}.{rest}", index(i)? + 1)
        }
        ["encoder" | "decoder", "conv_in" | "conv_out" | "conv_norm_out", _]
        | ["quant_conv" | "post_quant_conv", _] => name.to_string(),
        _ => return None,
    };
    for (ours, theirs) in PARTS {
        found = found.replace(ours, theirs);
    }
    Some((found, Form::Same))
}
