//! The registry of families: a new one is its file and its line here.

use super::declaration::{Declaration, Family};
use super::{sd1, sd2, sdxl};
use crate::models::ConfigFile;
use serde_json::Value;

pub(super) const DECLARATIONS: [&Declaration; 3] = [&sd1::DECLARATION, &sd2::DECLARATION, &sdxl::DECLARATION];

/// The family of a pipeline class, by the width of the prompt embeddings among those of full size; else the first.
pub(super) fn of_class(class: &str, context_width: Option<i64>) -> Option<&'static Declaration> {
    let all = || DECLARATIONS.into_iter().filter(|declaration| declaration.pipeline_class == class);
    all().find(|declaration| Some(declaration.context_width) == context_width).or_else(|| all().next())
}

/// The family with this name in headers of exported checkpoints.
pub(super) fn of_key(key: &str) -> Option<&'static Declaration> {
    DECLARATIONS.into_iter().find(|declaration| declaration.key == key)
}

/// The family whose cross-attention takes prompt embeddings of this width.
pub(super) fn of_context_width(width: i64) -> Option<&'static Declaration> {
    DECLARATIONS.into_iter().find(|declaration| declaration.context_width == width)
}

/// A family whose denoiser has the class of a config.json.
pub(super) fn of_network(file: &ConfigFile) -> &'static Declaration {
    let class = file.get("_class_name").and_then(Value::as_str);
    let named = DECLARATIONS.into_iter().find(|declaration| Some(declaration.network.class) == class);
    named.unwrap_or(DECLARATIONS[0])
}

/// The first variant of the family with this name: `sd1`, `sd2`, `sdxl`.
pub fn families() -> impl Iterator<Item = Family> {
    DECLARATIONS.into_iter().map(|declaration| declaration.family(declaration.variants[0].prediction))
}

/// The first variant of the family with that name: `sd1`, `sd2`, `sdxl`.
pub fn family_named(key: &str) -> Option<Family> {
    of_key(key).map(|declaration| declaration.family(declaration.variants[0].prediction))
}

/// Name of the family whose cross-attention takes prompt embeddings of this width, for messages; `None` for an
/// unknown width.
pub fn family_of_context_width(width: i64) -> Option<&'static str> {
    match of_context_width(width) {
        Some(declaration) => Some(declaration.variants[0].name),
        None => (width == 1280).then_some("the SDXL refiner"),
    }
}
