//! A model of one option, with the model that it started from where that is known.

use super::models::{NamedModel, models_of_run};
use crate::keys::ConfigError;
use anyhow::Result;
use std::path::Path;

/// A model and its start model.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub model: NamedModel,
    /// The model that a run started from, or the model below LoRAs; `None`: nothing tells.
    pub start: Option<NamedModel>,
    /// Pixels per side that a run trained on.
    pub resolution: Option<i64>,
}

impl Source {
    /// Reads `RUN`, the folder of a finished run, or `PATH[+LORA[:SCALE]]...`. `option` is named in messages.
    ///
    /// # Errors
    /// [`ConfigError`]: text that is neither, a run without `final/`.
    pub fn read(option: &str, text: &str) -> Result<Self> {
        let folder = Path::new(text);
        if folder.join("resolved.toml").is_file() {
            let (models, config) = models_of_run(folder)?;
            let mut models = models.into_iter();
            let (start, model) = (models.next(), models.next());
            let Some(model) = model else { return Err(refusal(option, text).into()) };
            return Ok(Self { model, start, resolution: Some(config.data.resolution) });
        }
        let parsed = NamedModel::parsed(text, text).map_err(|problem| ConfigError(format!("{option}: {problem}")))?;
        let model = parsed.ok_or_else(|| refusal(option, text))?;
        let start = (!model.loras.is_empty()).then(|| NamedModel { loras: Vec::new(), ..model.clone() });
        Ok(Self { model, start, resolution: None })
    }
}

fn refusal(option: &str, text: &str) -> ConfigError {
    ConfigError(format!("{option} {text:?}: expected a run's folder or PATH[+LORA[:SCALE]]..."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_with_loras_starts_from_the_one_below_them() {
        let read = Source::read("--label", "models/sd15+a.safetensors:0.5").unwrap();
        assert_eq!(read.start.unwrap().source(), "models/sd15");
        assert_eq!(read.model.source(), "models/sd15 + a.safetensors:0.5");
        assert_eq!(Source::read("--label", "models/sd15").unwrap().start, None);
        let said = Source::read("--label", "").unwrap_err().to_string();
        assert!(said.starts_with("--label \"\": expected a run's folder or PATH"), "{said}");
    }
}
