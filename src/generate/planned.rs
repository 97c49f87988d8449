//! Records of the pictures of a request, before any is painted.

use super::record::PROGRAM;
use super::request::Request;
use crate::machine::devices;
use crate::machine::hashes::{self, HashMemory};
use crate::painting::{Look, Tiling, lora_hashes};
use anyhow::Result;
use pipelines::Dtype;
use pipelines::families::{EmptySide, ModelFolder};
use pipelines::sampling::Guidance;
use pipelines::schedulers::SchedulerConfig;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The records of all pictures, in order.
pub fn plan(request: &Request, folder: &ModelFolder, look: &Look, hashes: &mut HashMemory) -> Result<Vec<Value>> {
    let weights = request.model.weight_hashes(folder, hashes)?;
    let loras = lora_hashes(&request.model.loras, hashes)?;
    let negative = request.model.negative_record(folder, hashes)?;
    let empty_side = match folder.empty_side() {
        EmptySide::Encoded => "encoded",
        EmptySide::Zeros => "zeros",
    };
    // Null: memory decides, and a resumed run keeps the decision.
    let vae = folder.vae_config(request.model.vae.as_deref())?;
    let factor = vae.factor();
    let tiled = match vae.tiles().filter(|tiles| tiles.divide(look.height / factor, look.width / factor)) {
        Some(_) if look.tiling == Tiling::Auto => Value::Null,
        tiles => json!(tiles.is_some() && look.tiling == Tiling::On),
    };
    let sampling = sampling_record(look, folder.scheduler())?;
    let mut records = Vec::new();
    for (index, prompt) in request.prompts.iter().enumerate() {
        for image in 0..request.num_images {
            let mut record = json!({
                "file": format!("{index:06}-{image:02}.png"),
                "prompt": prompt,
                "negative_prompt": look.negative_prompt,
                "seed": request.seed + image,
                "model": request.model.model.path.display().to_string(),
                "unet": request.model.unet.as_ref().map(|path| path.display().to_string()),
                "vae": request.model.vae.as_ref().map(|path| path.display().to_string()),
                "loras": loras,
                "negative": negative,
                "clip_skip": request.model.overrides.clip_skip,
                "empty_side": empty_side,
                "width": look.width,
                "height": look.height,
                "dtype": Dtype::of_kind(request.model.kind).map(Dtype::name),
                "device": devices::name(request.model.device),
                "batch": look.batch,
                "vae_tiling": tiled,
                "weights": weights,
                "program": PROGRAM,
            });
            if let Some(record) = record.as_object_mut() {
                record.extend(sampling.clone());
            }
            records.push(record);
        }
    }
    Ok(records)
}

/// The part of a record that describes sampling.
fn sampling_record(look: &Look, noise_process: &SchedulerConfig) -> Result<Map<String, Value>> {
    let sampling = &look.sampling;
    let (scale, rescale, lambda) = match sampling.guidance {
        Guidance::ClassifierFree { scale, rescale } => (Some(scale), rescale, None),
        Guidance::PlusPlus { lambda } => (None, 0.0, Some(lambda)),
    };
    let file: BTreeMap<_, _> = noise_process.values().iter().filter(|(key, _)| *key != "_diffusers_version").collect();
    let record = json!({
        "guidance_scale": scale,
        "guidance_rescale": rescale,
        "cfg_plus_plus": lambda,
        "scheduler": sampling.scheduler.name,
        "eta": sampling.options.eta,
        "karras": sampling.scheduler.uses_karras(noise_process, sampling.options.karras)?,
        "prediction_type": noise_process.prediction_type.name(),
        "zero_terminal_snr": noise_process.rescale_betas_zero_snr && sampling.scheduler.takes_zero_terminal_snr,
        "scheduler_config": hashes::of_bytes(serde_json::to_string(&file)?.as_bytes()),
        "steps": sampling.steps,
    });
    Ok(record.as_object().cloned().unwrap_or_default())
}
