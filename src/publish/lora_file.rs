//! A LoRA file in PEFT or kohya naming.

use crate::machine::clock::now_iso;
use anyhow::Result;
use pipelines::families::Family;
use pipelines::lora::{Lora, LoraTargets, Network};
use pipelines::weights::is_finite;
use std::path::Path;
use tch::Kind;

/// Format and path of a written LoRA.
pub struct LoraOutput<'a> {
    pub out: &'a Path,
    pub kind: Kind,
    /// None: PEFT naming.
    pub kohya: Option<(&'a LoraTargets, Family)>,
    pub title: &'a str,
    /// Further texts of the header.
    pub notes: &'a [(&'a str, &'a str)],
}

/// Writes a LoRA file.
///
/// # Errors
/// Values outside the range of the type.
pub fn write_lora_file(lora: &Lora, output: &LoraOutput) -> Result<()> {
    check_range(lora, output.kind)?;
    if let Some(parent) = output.out.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let Some((targets, family)) = output.kohya else {
        return Ok(lora.write_peft_with(output.out, output.kind, output.notes)?);
    };
    let date = now_iso();
    let mut header = family.lora_header().to_vec();
    header.extend([("ss_output_name", output.title), ("modelspec.title", output.title)]);
    header.extend([("modelspec.sai_model_spec", "1.0.1"), ("modelspec.date", date.as_str())]);
    header.extend_from_slice(output.notes);
    Ok(lora.write_kohya(output.out, output.kind, targets, &header)?)
}

/// Refuses matrices with values outside the range of the type.
fn check_range(lora: &Lora, kind: Kind) -> Result<()> {
    for (network, weights) in lora.networks() {
        for (path, module) in &weights.modules {
            if !is_finite(&module.a.to_kind(kind))? || !is_finite(&module.b.to_kind(kind))? {
                let name = Network::name(network);
                anyhow::bail!(
                    "{name}.{path}: a value is not finite as {kind:?}; write bfloat16 or float32, or the LoRA is damaged"
                );
            }
        }
    }
    Ok(())
}
