//! scores.jsonl: one row per picture and prompt, with the numbers of every scorer by measure.

use crate::machine::files::write_atomically;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Numbers by scorer and measure.
pub type Scores = BTreeMap<String, BTreeMap<String, f64>>;

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredRow {
    /// Relative to the file.
    pub picture: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    pub scores: Scores,
    /// Other columns of the input.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Writes the rows; the file appears whole.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(path: &Path, rows: &[ScoredRow]) -> Result<()> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row)?;
        text.push(b'\n');
    }
    write_atomically(path, &text)
}

/// Reads a scores.jsonl of `diffpref score` or `diffpref eval`.
///
/// # Errors
/// A row that does not parse: the text names file and row.
pub fn read_scores(path: &Path) -> Result<Vec<ScoredRow>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: ScoredRow = serde_json::from_str(line).with_context(|| {
            format!(
                "{}:{}: expected {{\"picture\": PATH, \"prompt\": TEXT, \"scores\": {{SCORER: {{MEASURE: NUMBER}}}}}}, \
                 as `diffpref score` writes",
                path.display(),
                index + 1
            )
        })?;
        rows.push(row);
    }
    if rows.is_empty() {
        bail!("{} holds no row; expected one per picture, as `diffpref score` writes", path.display());
    }
    Ok(rows)
}
