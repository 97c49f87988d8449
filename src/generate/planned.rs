//! Records of the pictures of a request, before any is painted.

use super::record::{PROGRAM, Record, SamplingRecord};
use super::request::Request;
use crate::machine::devices;
use crate::machine::hashes::{self, HashMemory};
use crate::painting::{Look, Tiling, lora_records};
use anyhow::Result;
use pipelines::Dtype;
use pipelines::families::ModelFolder;
use pipelines::sampling::Guidance;
use pipelines::schedulers::SchedulerConfig;
use std::collections::BTreeMap;

/// The records of all pictures, in order.
pub fn plan(request: &Request, folder: &ModelFolder, look: &Look, hashes: &mut HashMemory) -> Result<Vec<Record>> {
    let weights = request.model.weight_hashes(folder, hashes)?;
    let loras = lora_records(&request.model.loras, hashes)?;
    let negative = request.model.negative_record(folder, hashes)?;
    // `None`: memory decides, and a resumed run keeps the decision.
    let vae = folder.vae_config(request.model.vae.as_deref())?;
    let factor = vae.factor();
    let tiled = match vae.tiles().filter(|tiles| tiles.divide(look.height / factor, look.width / factor)) {
        Some(_) if look.tiling == Tiling::Auto => None,
        tiles => Some(tiles.is_some() && look.tiling == Tiling::On),
    };
    let sampling = sampling_record(look, folder.scheduler())?;
    let mut records = Vec::new();
    for (index, prompt) in request.prompts.iter().enumerate() {
        for image in 0..request.num_images {
            records.push(Record {
                file: format!("{index:06}-{image:02}.png"),
                prompt: prompt.clone(),
                negative_prompt: look.negative_prompt.clone(),
                seed: request.seed + image,
                model: request.model.model.path.clone(),
                unet: request.model.unet.clone(),
                vae: request.model.vae.clone(),
                loras: loras.clone(),
                negative: negative.clone(),
                clip_skip: request.model.overrides.clip_skip,
                empty_side: folder.empty_side(),
                width: look.width,
                height: look.height,
                dtype: Dtype::of_kind(request.model.kind),
                device: devices::name(request.model.device),
                batch: look.batch,
                vae_tiling: tiled,
                weights: weights.clone(),
                program: PROGRAM.to_string(),
                sampling: sampling.clone(),
            });
        }
    }
    Ok(records)
}

/// The part of a record that describes sampling.
fn sampling_record(look: &Look, noise_process: &SchedulerConfig) -> Result<SamplingRecord> {
    let sampling = &look.sampling;
    let (guidance_scale, guidance_rescale, cfg_plus_plus) = match sampling.guidance {
        Guidance::ClassifierFree { scale, rescale } => (Some(scale), rescale, None),
        Guidance::PlusPlus { lambda } => (None, 0.0, Some(lambda)),
    };
    let file: BTreeMap<_, _> = noise_process.values().iter().filter(|(key, _)| *key != "_diffusers_version").collect();
    Ok(SamplingRecord {
        guidance_scale,
        guidance_rescale,
        cfg_plus_plus,
        scheduler: sampling.scheduler.name.to_string(),
        eta: sampling.options.eta,
        karras: sampling.scheduler.uses_karras(noise_process, sampling.options.karras)?,
        prediction_type: Some(noise_process.prediction_type),
        zero_terminal_snr: noise_process.rescale_betas_zero_snr && sampling.scheduler.takes_zero_terminal_snr,
        scheduler_config: hashes::of_bytes(serde_json::to_string(&file)?.as_bytes()),
        steps: sampling.steps,
    })
}
