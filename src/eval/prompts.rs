//! The prompts of an evaluation, some of them held out of training.

use crate::data::prompts;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::Path;

/// A prompt to paint.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub text: String,
    /// Absent from all training items.
    pub held_out: bool,
}

/// Fields of a row of `.jsonl` besides its prompt.
#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    held_out: bool,
}

/// Reads a file of prompts in the formats of `diffpref generate`. Rows of `.jsonl` may carry `held_out`.
///
/// # Errors
/// They name the file and the row.
pub fn read_prompts(path: &Path, column: Option<&str>) -> Result<Vec<Prompt>> {
    let texts = prompts::read(path, column)?;
    let mut seen = std::collections::HashSet::new();
    if let Some((index, text)) = texts.iter().enumerate().find(|(_, text)| !seen.insert(*text)) {
        bail!(
            "{}: prompt {} ({text:?}) is there twice; remove one, every prompt counts once",
            path.display(),
            index + 1
        );
    }
    let held_out = held_out(path, texts.len())?;
    Ok(texts.into_iter().zip(held_out).map(|(text, held_out)| Prompt { text, held_out }).collect())
}

/// Whether each prompt is held out.
fn held_out(path: &Path, count: usize) -> Result<Vec<bool>> {
    if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("jsonl")) {
        return Ok(vec![false; count]);
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the prompts {}", path.display()))?;
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(index, line): (usize, &str)| -> Result<bool> {
        let row: Row = serde_json::from_str(line)
            .with_context(|| format!("{} row {}: expected \"held_out\": true or false", path.display(), index + 1))?;
        Ok(row.held_out)
    };
    lines.map(row).collect()
}
