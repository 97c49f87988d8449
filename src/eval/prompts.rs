//! The prompts of an evaluation, some of them held out of training.

use crate::data::prompts;
use anyhow::{Context, Result};
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

/// Reads a file of prompts in the formats of `diffpref generate`. Rows of `.jsonl` may carry `held_out`. A prompt that
/// is there several times counts once, as its first row says; published lists have some. Returns the prompts and the
/// number of rows left out.
///
/// # Errors
/// They name the file and the row.
pub fn read_prompts(path: &Path, column: Option<&str>) -> Result<(Vec<Prompt>, usize)> {
    let texts = prompts::read(path, column)?;
    let (rows, mut seen) = (texts.len(), std::collections::HashSet::new());
    let every = texts.into_iter().zip(held_out(path, rows)?).map(|(text, held_out)| Prompt { text, held_out });
    let prompts: Vec<Prompt> = every.filter(|prompt| seen.insert(prompt.text.clone())).collect();
    let left_out = rows - prompts.len();
    Ok((prompts, left_out))
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
