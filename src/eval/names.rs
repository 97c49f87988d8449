//! The prompts of an evaluation: names, some of them held out of training.

use crate::data::prompts;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::Path;

/// A prompt to paint.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Name {
    pub prompt: String,
    /// File name of its drawings, without ending.
    #[serde(default)]
    pub slug: Option<String>,
    /// No training pair shows it.
    #[serde(default)]
    pub held_out: bool,
}

/// Reads a file of prompts. Of `.jsonl` the keys `prompt`, `slug` and `held_out` count; other files are read like those
/// of `diffpref generate`. Where no name is held out, all of them count as held out.
///
/// # Errors
/// They name the file and the row.
pub fn read_names(path: &Path) -> Result<Vec<Name>> {
    let is_jsonl = path.extension().is_some_and(|ending| ending == "jsonl");
    let mut names = if is_jsonl { read_jsonl(path)? } else { plain(prompts::read(path, None)?) };
    if let Some((index, name)) = repeated(&names) {
        bail!(
            "{}: prompt {} ({:?}) stands there twice; remove one, every prompt counts once",
            path.display(),
            index + 1,
            name.prompt
        );
    }
    if names.is_empty() {
        bail!("{} holds no prompt", path.display());
    }
    if names.iter().all(|name| !name.held_out) {
        names.iter_mut().for_each(|name| name.held_out = true);
    }
    Ok(names)
}

fn read_jsonl(path: &Path) -> Result<Vec<Name>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the prompts {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(index, line): (usize, &str)| -> Result<Name> {
        serde_json::from_str(line).with_context(|| {
            format!(
                "{} row {}: expected {{\"prompt\": .., \"slug\": .., \"held_out\": true or false}}",
                path.display(),
                index + 1
            )
        })
    };
    lines.map(row).collect()
}

fn plain(prompts: Vec<String>) -> Vec<Name> {
    prompts.into_iter().map(|prompt| Name { prompt, slug: None, held_out: false }).collect()
}

fn repeated(names: &[Name]) -> Option<(usize, &Name)> {
    let mut seen = std::collections::HashSet::new();
    names.iter().enumerate().find(|(_, name)| !seen.insert(&name.prompt))
}
