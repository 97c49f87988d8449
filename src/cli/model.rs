//! Which model: the options that several commands have in common.

use pipelines::hub::Location;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// The model: a folder in the diffusers layout, a single .safetensors file, or a hub id org/name
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Branch, tag or commit of a hub id [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// The variant of the weight files, for example fp16 [default: plain files, fp16 where there are none]
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

impl ModelArgs {
    pub fn location(&self) -> Location {
        Location { path: self.model.clone(), revision: self.revision.clone(), variant: self.variant.clone() }
    }
}
