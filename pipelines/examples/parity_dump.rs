//! Writes what a network makes of given inputs, for a comparison with another implementation:
//!
//! ```text
//! parity_dump (unet | vae | clip) COMPONENT_FOLDER INPUTS.safetensors OUT.safetensors [LORA [REWRITTEN_FOLDER]]
//! ```
//!
//! INPUTS holds `input.*` and, where gradients are wanted, `target.*` for every output; OUT gets `output.*` and
//! `gradient.*` of the summed mean squared errors. With a LoRA the gradients are the LoRA's, and REWRITTEN_FOLDER gets
//! the LoRA as this program writes it: `peft.safetensors` and `kohya.safetensors`.

#[path = "../tests/it/support/compute.rs"]
mod compute;

use pipelines::families::family_named;
use pipelines::lora::{Lora, LoraTargets};
use pipelines::models::UNetConfig;
use pipelines::weights::{TensorFile, write_safetensors};
use std::path::Path;
use tch::Kind;

fn main() -> pipelines::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, dir, inputs, out, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: parity_dump KIND COMPONENT_FOLDER INPUTS OUT [LORA [REWRITTEN_FOLDER]]");
        std::process::exit(2);
    };
    let lora = rest.first().map(Path::new);
    let made = compute::compute(kind, Path::new(dir), &TensorFile::open(Path::new(inputs))?, lora);
    let outputs = made.outputs.into_iter().map(|(name, value)| (format!("output.{name}"), value));
    let gradients = made.gradients.into_iter().map(|(name, value)| (format!("gradient.{name}"), value));
    write_safetensors(Path::new(out), &outputs.chain(gradients).collect::<Vec<_>>(), &[])?;
    if let (Some(lora), Some(folder)) = (lora, rest.get(1).map(Path::new)) {
        let targets = LoraTargets::new(&UNetConfig::read(Path::new(dir))?, &[]);
        let lora = Lora::read(lora, &targets)?;
        lora.write_peft(&folder.join("peft.safetensors"), Kind::Float)?;
        lora.write_kohya(
            &folder.join("kohya.safetensors"),
            Kind::Float,
            &targets,
            family_named("sd1").map_or(&[][..], |family| family.lora_header()),
        )?;
    }
    Ok(())
}
