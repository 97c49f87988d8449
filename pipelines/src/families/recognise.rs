//! Recognition of a single-file checkpoint by its tensors: the family, the noise process, and unsupported kinds.

use super::declaration::Declaration;
use super::layout::NETWORK;
use super::registry::DECLARATIONS;
use super::standard::Noise;
use crate::error::{Error, Result};
use crate::schedulers::PredictionType;
use crate::weights::TensorFile;
use std::path::Path;

const SUPPORTED: &str = "use a checkpoint of Stable Diffusion 1.x, 2.x or XL base in the layout that A1111, ComfyUI and \
                         kohya share, or a model folder in the diffusers layout";
/// Names (or prefixes) that exist only in other kinds of models.
const OTHERS: [(&str, &str); 14] = [
    ("edm_mean", "a model of EDM's noise process (Playground)"),
    ("edm_vpred.sigma_max", "a model of EDM's noise process"),
    ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3"),
    ("joint_blocks.", "Stable Diffusion 3"),
    ("model.diffusion_model.double_blocks.", "FLUX"),
    ("double_blocks.", "FLUX"),
    ("model.diffusion_model.time_embed.cond_proj.", "a distilled model (latent consistency)"),
    ("control_model.", "a ControlNet"),
    ("model.diffusion_model.clip_txt_mapper.", "Stable Cascade"),
    ("lora_unet_", "a LoRA: give it with --lora, or as lora.init"),
    ("lora_te", "a LoRA: give it with --lora, or as lora.init"),
    ("unet.down_blocks.", "a LoRA: give it with --lora, or as lora.init"),
    ("down_blocks.", "a UNet or VAE in diffusers' names: put it into a component folder with its config.json"),
    ("decoder.up.", "a VAE alone: give it as the VAE of another model"),
];

/// The family of a file.
///
/// # Errors
/// Every unsupported kind of checkpoint, by name if known.
pub fn family(file: &TensorFile) -> Result<&'static Declaration> {
    let refuse = |what: &str| {
        Err(Error::unusable(file.path(), format!("this is {what}, which is not supported here"), SUPPORTED))
    };
    if let Some((_, what)) = OTHERS.iter().find(|(start, _)| file.names().any(|name| name.starts_with(start))) {
        return refuse(what);
    }
    let shape = |name: &str| file.shape(&format!("{NETWORK}{name}"));
    let holds = |(name, width): &(&str, Option<i64>)| shape(name).and_then(|shape| shape.get(1).copied()) == *width;
    if let Some(known) = DECLARATIONS.into_iter().find(|known| known.single_file.marks.iter().all(holds)) {
        return Ok(known);
    }
    let Some([model_channels, channels, ..]) = shape("input_blocks.0.0.weight") else {
        let count = file.names().count();
        let first = file.names().next().unwrap_or("nothing");
        return refuse(&format!(
            "no Stable Diffusion checkpoint that is known ({count} tensors, the first is {first})"
        ));
    };
    match channels {
        4 => {}
        5 => return refuse("a model steered by depth"),
        8 => return refuse("InstructPix2Pix, or another model that takes a picture"),
        9 => return refuse("an inpainting model"),
        _ => return refuse(&format!("a model with {channels} input channels")),
    }
    let width =
        |block: &str| shape(&format!("{block}.transformer_blocks.0.attn2.to_k.weight")).and_then(|s| s.get(1).copied());
    let labelled = shape("label_emb.0.0.weight").is_some();
    match (width("input_blocks.1.1"), width("input_blocks.4.1"), labelled) {
        (Some(1024), _, true) => refuse("Stable unCLIP, or another SD2 that takes a picture"),
        (None, Some(1280), true) if *model_channels == 384 => refuse("the SDXL refiner"),
        (first, second, _) => {
            let width = first.or(second).map_or("no".to_string(), |w| format!("{w} wide"));
            refuse(&format!("of no family that is known ({width} prompt embeddings, {model_channels} channels)"))
        }
    }
}

/// Prediction type of a file, by markers in the file, its header, or a YAML beside it.
pub fn noise(file: &TensorFile, declaration: &Declaration) -> Result<Noise> {
    let has = |name: &str| file.shape(name).is_some();
    let said = ["modelspec.prediction_type", "modelspec.predict_key"].iter().find_map(|key| file.metadata().get(*key));
    let zero_terminal_snr = has("ztsnr") || said.is_some_and(|said| said == "v-zsnr");
    let prediction = match said.map(String::as_str) {
        Some("epsilon") => PredictionType::Epsilon,
        Some("v" | "v_prediction" | "v-zsnr") => PredictionType::VPrediction,
        Some(other) => {
            let problem = format!("its header has the prediction type {other:?}, expected \"epsilon\" or \"v\"");
            return Err(Error::unusable(file.path(), problem, SUPPORTED));
        }
        None if has("v_pred") || yaml_says_velocity(file.path()) => PredictionType::VPrediction,
        None => match declaration.single_file.predicts_velocity {
            Some(tells) if tells(file)? => PredictionType::VPrediction,
            _ => PredictionType::Epsilon,
        },
    };
    Ok(Noise { prediction, zero_terminal_snr })
}

/// A1111 reads NAME.yaml beside NAME.safetensors.
fn yaml_says_velocity(path: &Path) -> bool {
    let text = std::fs::read_to_string(path.with_extension("yaml")).unwrap_or_default();
    let value =
        |line: &str| line.trim().strip_prefix("parameterization:").map(|v| v.trim().trim_matches(['"', '\'']) == "v");
    text.lines().find_map(value).unwrap_or(false)
}

/// Names that may be in a model's file without being part of it: copies, buffers of the noise process, leftovers of
/// training.
pub fn is_harmless(name: &str) -> bool {
    const STARTS: [&str; 5] =
        ["model_ema.", "denoiser.", "embedding_manager.", "first_stage_model.loss.", "first_stage_model.model_ema."];
    const ENDS: [&str; 4] = [".position_ids", ".logit_scale", ".text_projection", ".text_projection.weight"];
    !name.contains('.')
        || STARTS.iter().any(|start| name.starts_with(start))
        || ENDS.iter().any(|end| name.ends_with(end))
}
