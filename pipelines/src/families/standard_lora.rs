//! LoRAs of a family's usual shape, recognised without a model.

use super::declaration::Family;
use super::registry::{family_of_context_width, of_context_width};
use super::standard::{Noise, descriptions};
use crate::error::{Error, Result};
use crate::lora::{Lora, LoraTargets};
use crate::models::{ClipTextConfig, ConfigFile};
use crate::schedulers::PredictionType;
use crate::weights::TensorFile;
use std::path::Path;

/// The layers and the family of a LoRA file's model, by the width of the prompt embeddings of its cross-attention. A
/// LoRA does not contain the prediction type; None is epsilon.
///
/// # Errors
/// A file without cross-attention, or of an unsupported family.
pub fn standard_of_lora(path: &Path, prediction: Option<PredictionType>) -> Result<(LoraTargets, Family)> {
    let prediction = prediction.unwrap_or(PredictionType::Epsilon);
    let file = TensorFile::open(&Lora::file_in(path))?;
    let width = Lora::context_width(&file);
    let Some(declaration) = width.and_then(of_context_width) else {
        let found = width.map_or("it has no cross-attention".to_string(), |width| {
            let family = family_of_context_width(width).map(|name| format!(" ({name})")).unwrap_or_default();
            format!("its cross-attention takes {width} wide prompt embeddings{family}")
        });
        let problem = format!("the model that this LoRA is for cannot be told: {found}");
        return Err(Error::unusable(path, problem, "name the model too, with --model (export) or --base (merge)"));
    };
    let texts = descriptions(declaration, Noise { prediction, zero_terminal_snr: false })?;
    let config = |component: &str| {
        let name = format!("{component}/config.json");
        ConfigFile::parse(Path::new(&name), texts.get(&name).map(String::as_str).unwrap_or_default())
    };
    let text = declaration.text.iter().map(|part| ClipTextConfig::from_file(config(part.encoder)?));
    let network = (declaration.network.describe)(config(declaration.network.component)?)?;
    Ok((LoraTargets::new(&*network, &text.collect::<Result<Vec<_>>>()?), declaration.family(prediction)))
}
