//! SHA-256 of every weight file of a model request, the origin of a picture.

use super::request::{LoraFile, ModelRequest};
use crate::machine::hashes::{FileHashes, HashMemory};
use anyhow::Result;
use pipelines::families::ModelFolder;
use pipelines::lora::Lora;
use pipelines::weights::component_files;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A LoRA of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraRecord {
    pub file: PathBuf,
    pub scale: f64,
    pub sha256: String,
}

/// The negative network of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NegativeRecord {
    /// Its folder; `None`: the model's own UNet.
    pub unet: Option<PathBuf>,
    pub loras: Vec<LoraRecord>,
    /// Weights of the positive and of the negative offset.
    pub merge: Option<[f64; 2]>,
    pub weights: FileHashes,
}

impl ModelRequest {
    /// Hash of every weight file except the LoRAs, by names such as `unet/diffusion_pytorch_model.safetensors`.
    pub fn weight_hashes(&self, folder: &ModelFolder, hashes: &mut HashMemory) -> Result<FileHashes> {
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

    /// The negative network with the hash of every file, if any.
    pub fn negative_record(&self, folder: &ModelFolder, hashes: &mut HashMemory) -> Result<Option<NegativeRecord>> {
        let Some(negative) = &self.negative else { return Ok(None) };
        let named = |part: &str, dir: Option<&Path>| -> Result<Vec<(String, PathBuf)>> {
            Ok(folder.unet_files(dir)?.into_iter().map(|file| (name_in(part, &file), file)).collect())
        };
        let mut files = named("unet", negative.unet.as_deref())?;
        if negative.merge.is_some() {
            files.extend(named("base", None)?);
        }
        let weights = hashes.named(files)?;
        Ok(Some(NegativeRecord {
            unet: negative.unet.clone(),
            loras: lora_records(&negative.loras, hashes)?,
            merge: negative.merge.map(|merge| [merge.alpha, merge.beta]),
            weights,
        }))
    }
}

/// LoRAs with their hashes.
pub fn lora_records(loras: &[LoraFile], hashes: &mut HashMemory) -> Result<Vec<LoraRecord>> {
    let record = |lora: &LoraFile| {
        let sha256 = hashes.of_file(&Lora::file_in(&lora.path))?;
        Ok(LoraRecord { file: lora.path.clone(), scale: lora.scale, sha256 })
    };
    loras.iter().map(record).collect()
}

/// `unet/model.safetensors`: a weight file below its part of a model.
fn name_in(part: &str, file: &Path) -> String {
    format!("{part}/{}", file.file_name().unwrap_or_default().to_string_lossy())
}
