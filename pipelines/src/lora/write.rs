//! LoRA files: PEFT naming for diffusers, kohya naming for ComfyUI and A1111.

use super::LoraWeights;
use crate::error::Result;
use crate::weights::write_safetensors;
use serde_json::{Map, Value, json};
use std::path::Path;
use tch::Tensor;

impl LoraWeights {
    /// Writes the file that diffusers' `load_lora_weights` reads. Where a scale is not 1, the header's
    /// `lora_adapter_metadata` says so; diffusers refuses `.alpha` tensors under these names.
    pub fn write_peft(&self, path: &Path) -> Result<()> {
        let tensors = self.trainable();
        if self.modules.values().all(|module| module.scale == 1.0) {
            return write_safetensors(path, &tensors, &[("format", "pt")]);
        }
        let metadata = self.adapter_metadata().to_string();
        write_safetensors(path, &tensors, &[("format", "pt"), ("lora_adapter_metadata", &metadata)])
    }

    /// PEFT's configuration of these adapters as the flat keys that diffusers writes.
    fn adapter_metadata(&self) -> Value {
        let rank = self.modules.values().next().map_or(0, |module| module.rank());
        let alpha = self.modules.values().next().map_or(0.0, |module| module.alpha());
        let mut ranks = Map::new();
        let mut alphas = Map::new();
        for (path, module) in &self.modules {
            if module.rank() != rank {
                ranks.insert(path.clone(), json!(module.rank()));
            }
            if module.alpha() != alpha {
                alphas.insert(path.clone(), number(module.alpha()));
            }
        }
        json!({
            "unet.alpha_pattern": alphas,
            "unet.lora_alpha": number(alpha),
            "unet.r": rank,
            "unet.rank_pattern": ranks,
            "unet.target_modules": self.modules.keys().collect::<Vec<_>>(),
        })
    }

    /// Writes the file that ComfyUI and A1111 read. `header` says for which base model it is: `Family::lora_header`.
    pub fn write_kohya(&self, path: &Path, header: &[(&str, &str)]) -> Result<()> {
        let mut tensors = Vec::new();
        for (module_path, module) in &self.modules {
            let name = kohya_name(module_path);
            tensors.push((format!("{name}.lora_down.weight"), module.a.shallow_clone()));
            tensors.push((format!("{name}.lora_up.weight"), module.b.shallow_clone()));
            tensors.push((format!("{name}.alpha"), Tensor::from(module.alpha() as f32)));
        }
        let rank = self.modules.values().map(|module| module.rank()).max().unwrap_or_default().to_string();
        let alpha = self.modules.values().map(|module| module.alpha()).fold(0.0, f64::max).to_string();
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

/// A whole number without a point, as PEFT's configuration has it.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// kohya's name of a UNet module.
pub(super) fn kohya_name(path: &str) -> String {
    format!("lora_unet_{}", path.replace('.', "_"))
}
