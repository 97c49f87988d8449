//! SHA-256 of every weight file of a model request, the origin of a picture.

use super::request::{LoraFile, ModelRequest};
use crate::machine::hashes::HashMemory;
use anyhow::Result;
use pipelines::families::ModelFolder;
use pipelines::lora::Lora;
use pipelines::weights::component_files;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

impl ModelRequest {
    /// `{"unet/diffusion_pytorch_model.safetensors": sha256, ..}` of every weight file except the LoRAs, sorted by
    /// name.
    pub fn weight_hashes(&self, folder: &ModelFolder, hashes: &mut HashMemory) -> Result<Map<String, Value>> {
        let mut files: Vec<(&str, PathBuf)> = folder.weight_files();
        for (part, other) in [("unet", &self.unet), ("vae", &self.vae)] {
            let Some(path) = other else { continue };
            files.retain(|(component, _)| *component != part);
            let others = component_files(path, "diffusion_pytorch_model", None)?;
            files.extend(others.into_iter().map(|file| (part, file)));
        }
        let mut named: Vec<_> = files.into_iter().map(|(part, file)| (name_in(part, &file), file)).collect();
        named.sort();
        hashes.named(named)
    }

    /// `{"unet", "loras", "merge", "weights"}` of the negative side, every file with its hash. Null without one.
    pub fn negative_record(&self, folder: &ModelFolder, hashes: &mut HashMemory) -> Result<Value> {
        let Some(negative) = &self.negative else { return Ok(Value::Null) };
        let named = |part: &str, dir: Option<&Path>| -> Result<Vec<(String, PathBuf)>> {
            Ok(folder.unet_files(dir)?.into_iter().map(|file| (name_in(part, &file), file)).collect())
        };
        let mut files = named("unet", negative.unet.as_deref())?;
        if negative.merge.is_some() {
            files.extend(named("base", None)?);
        }
        let weights = hashes.named(files)?;
        Ok(json!({
            "unet": negative.unet.as_ref().map(|dir| dir.display().to_string()),
            "loras": lora_hashes(&negative.loras, hashes)?,
            "merge": negative.merge.map(|merge| [merge.alpha, merge.beta]),
            "weights": weights,
        }))
    }
}

/// `[{"file": .., "scale": .., "sha256": ..}, ..]` of LoRAs.
pub fn lora_hashes(loras: &[LoraFile], hashes: &mut HashMemory) -> Result<Vec<Value>> {
    let record = |lora: &LoraFile| {
        let sha256 = hashes.of_file(&Lora::file_in(&lora.path))?;
        Ok(json!({"file": lora.path.display().to_string(), "scale": lora.scale, "sha256": sha256}))
    };
    loras.iter().map(record).collect()
}

/// `unet/model.safetensors`: a weight file below its part of a model.
fn name_in(part: &str, file: &Path) -> String {
    format!("{part}/{}", file.file_name().unwrap_or_default().to_string_lossy())
}
