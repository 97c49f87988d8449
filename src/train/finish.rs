//! Output of a finished run: `final/`, `best/`, the model card.

use super::learner::Learner;
use crate::machine::files::{publish_dir, unfinished_dir, write_atomically};
use crate::networks::{LORA_FILE, whole_lora, write_weights};
use crate::settings::Settings;
use anyhow::Result;
use pipelines::families::{Family, ModelFolder};
use pipelines::weights::LoadOptions;
use std::path::Path;
use tch::{Kind, Tensor};

pub const KOHYA_FILE: &str = "kohya_lora_weights.safetensors";

/// Writes `best/`: the weights with the best held-out result so far.
pub fn write_best(run: &Path, learner: &Learner) -> Result<()> {
    let parts = unfinished_dir(run)?;
    write_weights(&learner.networks().policy, parts.path(), learner.average(), "")?;
    publish_dir(parts, &run.join("best"))
}

/// Writes `final/`: a folder that diffusers loads, or the LoRA in both namings; with the model card.
pub fn write_final(run: &Path, config: &Settings, folder: &ModelFolder, learner: &Learner) -> Result<()> {
    let parts = unfinished_dir(run)?;
    let dir = parts.path();
    let ema = learner.average();
    write_weights(&learner.networks().policy, dir, ema, "")?;
    if ema.is_some() {
        write_weights(&learner.networks().policy, dir, None, "_raw")?;
    }
    match &learner.networks().policy.lora {
        Some(_) => {
            write_kohya(folder, learner, ema, &dir.join(KOHYA_FILE))?;
            if ema.is_some() {
                write_kohya(folder, learner, None, &dir.join(KOHYA_FILE.replace(".safetensors", "_raw.safetensors")))?;
            }
        }
        None => {
            folder.copy_without_network(dir)?;
            if let Some(vae) = &config.model.vae {
                folder.load_vae(Some(vae), &LoadOptions::cpu())?.save(&dir.join("vae"), Kind::Float)?;
            }
        }
    }
    write_atomically(
        &dir.join("README.md"),
        model_card(config, folder.family(), learner.networks().policy.lora.is_some()).as_bytes(),
    )?;
    publish_dir(parts, &run.join("final"))
}

fn write_kohya(
    folder: &ModelFolder,
    learner: &Learner,
    values: Option<&[(String, Tensor)]>,
    path: &Path,
) -> Result<()> {
    let lora = whole_lora(&learner.networks().policy, values);
    Ok(lora.write_kohya(path, Kind::Float, &folder.lora_targets(), folder.family().lora_header())?)
}

fn model_card(config: &Settings, family: Family, lora: bool) -> String {
    let (class, tag) = (family.pipeline_class(), family.card_tag());
    let method = config.method.name();
    let base = config.model.path.display();
    let tags = if lora { "\n- lora" } else { "" };
    let load = if lora {
        format!(
            "pipe = {class}.from_pretrained(\"{base}\")\npipe.load_lora_weights(\"final\", weight_name=\"{LORA_FILE}\")"
        )
    } else {
        format!("pipe = {class}.from_pretrained(\"final\")")
    };
    let kohya = if lora { format!("\n`{KOHYA_FILE}` holds the same for ComfyUI and A1111.\n") } else { String::new() };
    format!(
        "---\nbase_model: \"{base}\"\nlibrary_name: diffusers\ntags:\n- text-to-image\n- {tag}\n- diffusers\n- {method}{tags}\ninference: true\n---\n\n\
         # Aligned with preferences\n\n\
         Trained by diffpref {} with `{method}`: {} steps of {} pairs at learning rate {:e}, {} px.\n\n\
         ```python\nfrom diffusers import {class}\n{load}\n```\n{kohya}\n\
         `resolved.toml` beside this folder reproduces the run.\n",
        env!("CARGO_PKG_VERSION"),
        config.train.steps,
        config.train.pairs_per_step(),
        config.optim.lr,
        config.data.resolution,
    )
}
