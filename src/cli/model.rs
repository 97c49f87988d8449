//! Model options of `generate`, and of each side of a comparison.

use diffpref::keys::ConfigError;
use pipelines::hub::Location;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct ModelArgs {
    /// Model: a folder in the diffusers layout, a single .safetensors file, or a hub id org/name
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Branch, tag or commit of a hub id [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Variant of the weight files, for example fp16 [default: plain files, fp16 where there are none]
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

impl ModelArgs {
    /// A model by its path alone.
    pub fn of(path: &str) -> Self {
        Self { model: Some(path.into()), ..Self::default() }
    }

    /// # Errors
    /// No model.
    pub fn location(&self) -> Result<Location, ConfigError> {
        let Some(path) = self.model.clone() else {
            return Err(ConfigError("--model MODEL is missing: a folder, a .safetensors file or a hub id".to_string()));
        };
        Ok(Location { path, revision: self.revision.clone(), variant: self.variant.clone() })
    }

    /// These options, with `common` for absent ones. A model brings its own revision and variant.
    pub fn over(&self, common: &Self) -> Self {
        let common = if self.model.is_some() { &Self::default() } else { common };
        Self {
            model: self.model.clone().or_else(|| common.model.clone()),
            revision: self.revision.clone().or_else(|| common.revision.clone()),
            variant: self.variant.clone().or_else(|| common.variant.clone()),
        }
    }
}
