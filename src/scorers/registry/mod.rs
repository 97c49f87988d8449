//! All scorers by name. A new one is a file in this folder, its `mod` line here, and its line in [`REGISTRY`].

mod aesthetic;
mod background;
mod brisque;
mod clip;
mod command;
mod compressibility;
mod content;
mod hpsv2;
mod http;
mod imagereward;
mod mps;
mod nearest;
mod nearest_drawing;
mod nima;
mod pickscore;
mod style;
mod trained;

pub use content::LARGEST;

use crate::keys::nearest as nearest_name;
use crate::scorers::scorer::Declaration;

/// Every scorer that is built.
pub const REGISTRY: &[Declaration] = &[
    style::STYLE,
    content::CONTENT,
    compressibility::COMPRESSIBILITY,
    nearest::PIXELS,
    nearest::LATENTS,
    background::BACKGROUND,
    nearest_drawing::NEAREST_DRAWING,
    nima::NIMA,
    brisque::BRISQUE,
    command::COMMAND,
    http::HTTP,
    clip::CLIP,
    pickscore::PICKSCORE,
    hpsv2::HPSV2,
    aesthetic::AESTHETIC,
    mps::MPS,
    imagereward::IMAGEREWARD,
    trained::TRAINED,
];

/// Published scorers that this version refuses.
pub const NOT_BUILT: &[&str] = &["hpsv3", "spo-preference", "vqascore"];

/// A name that is not registered. The text says what was expected and the nearest name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unknown(pub String);

/// The names of [`REGISTRY`].
pub fn names() -> Vec<&'static str> {
    REGISTRY.iter().map(|declaration| declaration.name).collect()
}

/// The scorer of this name.
///
/// # Errors
/// A name that is not registered.
pub fn declaration(name: &str) -> Result<&'static Declaration, Unknown> {
    REGISTRY.iter().find(|declaration| declaration.name == name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Unknown {
    let names = names();
    let known = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" | ");
    if NOT_BUILT.contains(&name) {
        return Unknown(format!("which is not built yet: take {known}"));
    }
    let hint = nearest_name(name, &names).map_or(String::new(), |known| format!(" (did you mean \"{known}\"?)"));
    Unknown(format!("expected {known}{hint}"))
}
