//! LoRA files: PEFT naming for diffusers, kohya naming for ComfyUI and A1111.

use super::file::Lora;
use super::targets::{LoraTargets, Network};
use super::weights::LoraWeights;
use crate::error::{Error, Result};
use crate::weights::write_safetensors;
use serde_json::{Map, Value, json};
use std::path::Path;
use tch::{Kind, Tensor};

impl Lora {
    /// Writes a file for diffusers' `load_lora_weights`. A scale other than 1 is recorded in the header's
    /// `lora_adapter_metadata`; diffusers refuses `.alpha` tensors under these names.
    pub fn write_peft(&self, path: &Path, kind: Kind) -> Result<()> {
        self.write_peft_with(path, kind, &[])
    }

    /// [`write_peft`](Self::write_peft) with further texts in the header.
    pub fn write_peft_with(&self, path: &Path, kind: Kind, header: &[(&str, &str)]) -> Result<()> {
        let mut tensors = Vec::new();
        let mut metadata = Map::new();
        for (network, weights) in self.networks() {
            let prefix = network.name();
            for (path, module) in &weights.modules {
                tensors.push((format!("{prefix}.{path}.lora_A.weight"), module.a.f_to_kind(kind)?));
                tensors.push((format!("{prefix}.{path}.lora_B.weight"), module.b.f_to_kind(kind)?));
            }
            // diffusers uses the scale 1 for a network without these keys, so they may be absent.
            if weights.modules.values().any(|module| module.scale != 1.0) {
                metadata.extend(adapter_metadata(prefix, weights));
            }
        }
        let adapters = (!metadata.is_empty()).then(|| Value::Object(metadata).to_string());
        let mut texts = vec![("format", "pt")];
        texts.extend(adapters.as_ref().map(|text| ("lora_adapter_metadata", text.as_str())));
        texts.extend_from_slice(header);
        write_safetensors(path, &tensors, &texts)
    }

    /// Writes a file for ComfyUI and A1111. `header` names the base model: `Family::lora_header`.
    ///
    /// # Errors
    /// A module that is no layer of the model.
    pub fn write_kohya(&self, path: &Path, kind: Kind, targets: &LoraTargets, header: &[(&str, &str)]) -> Result<()> {
        let mut tensors = Vec::new();
        for (network, weights) in self.networks() {
            targets.check(network, weights).map_err(Error::Invalid)?;
            for (path, module) in &weights.modules {
                let name = targets.kohya_name(network, path);
                tensors.push((format!("{name}.lora_down.weight"), module.a.f_to_kind(kind)?));
                tensors.push((format!("{name}.lora_up.weight"), module.b.f_to_kind(kind)?));
                // An alpha in half precision would change the scale by up to a thousandth.
                tensors.push((format!("{name}.alpha"), Tensor::from(module.alpha() as f32)));
            }
        }
        // kohya's header has one rank and one alpha: the largest of the UNet.
        let unet = self.network(Network::Unet).or_else(|| self.networks().next().map(|(_, weights)| weights));
        let modules = || unet.into_iter().flat_map(|weights| weights.modules.values());
        let rank = modules().map(|module| module.rank()).max().unwrap_or_default().to_string();
        let alpha = modules().map(|module| module.alpha()).fold(0.0, f64::max).to_string();
        let mut metadata = vec![
            ("format", "pt"),
            ("ss_network_module", "networks.lora"),
            ("ss_network_dim", rank.as_str()),
            ("ss_network_alpha", alpha.as_str()),
        ];
        metadata.extend_from_slice(header);
        write_safetensors(path, &tensors, &metadata)
    }
}

/// PEFT's configuration of these adapters as flat keys, as written by diffusers. Modules of text encoders are named
/// without `text_model.`: transformers dropped it in 5.6, and PEFT matches suffixes, so every version finds them.
fn adapter_metadata(prefix: &str, weights: &LoraWeights) -> Map<String, Value> {
    let rank = weights.modules.values().next().map_or(0, |module| module.rank());
    let alpha = weights.modules.values().next().map_or(0.0, |module| module.alpha());
    let mut ranks = Map::new();
    let mut alphas = Map::new();
    let short = |path: &'_ str| path.strip_prefix("text_model.").unwrap_or(path).to_string();
    for (path, module) in &weights.modules {
        if module.rank() != rank {
            ranks.insert(short(path), json!(module.rank()));
        }
        if module.alpha() != alpha {
            alphas.insert(short(path), number(module.alpha()));
        }
    }
    let keys = [
        ("alpha_pattern", Value::Object(alphas)),
        ("lora_alpha", number(alpha)),
        ("r", json!(rank)),
        ("rank_pattern", Value::Object(ranks)),
        ("target_modules", json!(weights.modules.keys().map(|path| short(path)).collect::<Vec<_>>())),
    ];
    keys.into_iter().map(|(key, value)| (format!("{prefix}.{key}"), value)).collect()
}

/// A whole number without a point, as in PEFT's configuration.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}
