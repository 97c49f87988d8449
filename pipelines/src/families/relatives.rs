//! Models that resemble a supported one: refused by name, before shapes are compared.

use crate::error::{Error, Result};
use crate::models::ConfigFile;
use serde_json::{Map, Value};
use std::path::Path;

/// Remedy for an unsupported model.
pub(super) const SUPPORTED: &str = "use a Stable Diffusion 1.x, 2.x or XL base model in the diffusers layout";

/// Parts of pipeline classes, and the kind of such models.
const CLASSES: [(&str, &str); 6] = [
    ("Inpaint", "an inpainting model"),
    ("InstructPix2Pix", "a model that edits a given picture (InstructPix2Pix)"),
    ("ControlNet", "a model steered by pictures (ControlNet)"),
    ("LatentConsistency", "a distilled model (latent consistency)"),
    ("Upscale", "an upscaler"),
    ("StableDiffusion3", "Stable Diffusion 3"),
];

/// The error for an unsupported pipeline class.
pub(super) fn refuse_class(path: &Path, class: &str, index: &Map<String, Value>) -> Error {
    let refiner = class == "StableDiffusionXLImg2ImgPipeline"
        && (index.get("requires_aesthetics_score") == Some(&Value::Bool(true)) || !has_part(index, "text_encoder"));
    let named = CLASSES.iter().find(|(part, _)| class.contains(part)).map(|(_, what)| *what);
    let problem = match (refiner, named) {
        (true, _) => format!("{class}: this is the SDXL refiner, which is not supported"),
        (false, Some(what)) => format!("{class}: this is {what}, which is not supported"),
        (false, None) => format!("the pipeline class {class} is not supported"),
    };
    Error::unusable(path, problem, SUPPORTED)
}

/// Names the probable kind of a UNet that lacks blocks of its config.json.
pub(super) fn name_distilled(error: Error) -> Error {
    let Error::Tensors(problems) = &error else { return error };
    let is_block = |name: &&String| name.contains("transformer_blocks.") || name.starts_with("mid_block.");
    match problems.missing.iter().find(is_block) {
        Some(_) => Error::unusable(
            &problems.path,
            format!("this is a distilled model (SSD-1B, Vega, KOALA, BK-SDM), or a damaged one: {problems}"),
            "for a distilled model, use the one that it was distilled from",
        ),
        None => error,
    }
}

fn has_part(index: &Map<String, Value>, part: &str) -> bool {
    index.get(part).and_then(Value::as_array).is_some_and(|entry| entry.iter().any(|name| !name.is_null()))
}

/// Refuses a UNet's config.json that belongs to another kind of model. `latent_channels` are those of the VAE.
pub(super) fn refuse_unet(unet: &ConfigFile, latent_channels: i64) -> Result<()> {
    let refused = |key: &str, expected: &str, what: &str| {
        Err(unet.conflict(key, format!("{expected}: this is {what}, which is not supported")))
    };
    let latents = format!("{latent_channels}, the latent_channels of the VAE");
    for (channels, what) in [(2 * latent_channels + 1, "an inpainting model"), (2 * latent_channels, "InstructPix2Pix")]
    {
        if unet.integer("in_channels", latent_channels)? == channels {
            return refused("in_channels", &latents, what);
        }
    }
    let pooled = "projection_class_embeddings_input_dim";
    if (unet.integer("cross_attention_dim", 0)?, unet.integer(pooled, 0)?) == (1280, 2560) {
        return refused(pooled, "2816, as SDXL's base has it", "the SDXL refiner");
    }
    // Different depths on the way up and down occur only in models with removed blocks.
    if unet.get("reverse_transformer_layers_per_block").is_some() {
        let what = "a distilled SDXL (SSD-1B, Segmind Vega, KOALA)";
        return refused("reverse_transformer_layers_per_block", "null", what);
    }
    if unet.get("time_cond_proj_dim").is_some() {
        return refused("time_cond_proj_dim", "null", "a distilled model (latent consistency)");
    }
    Ok(())
}
