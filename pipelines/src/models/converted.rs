//! Folders of published weights that users convert to safetensors.

use crate::error::{Error, Result};
use std::path::Path;

/// File of the weights.
pub(in crate::models) const WEIGHTS: &str = "model.safetensors";

/// Refuses a folder without weights, with the remedy by the files in it. `what`: the model, for the message.
///
/// # Errors
/// A folder without model.safetensors.
pub(in crate::models) fn require_weights(dir: &Path, what: &str) -> Result<()> {
    if dir.join(WEIGHTS).is_file() {
        return Ok(());
    }
    let entries = std::fs::read_dir(dir).map_err(|error| Error::io("read the folder", dir, error))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let with = |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end)));
    let hint = match (with(&[".bin", ".pt", ".pth", ".ckpt"]), with(&[".safetensors"])) {
        (Some(pickle), _) => {
            format!("{pickle} is a pickle, which can run code and is never loaded: convert it as in docs/scorers.md")
        }
        (None, Some(other)) => format!("there is {other}: if it holds the {what}, rename it to {WEIGHTS}"),
        (None, None) => "docs/scorers.md says how to make the folder".to_string(),
    };
    Err(Error::missing(dir, WEIGHTS, hint))
}
