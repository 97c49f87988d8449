//! Prompts of the configuration: a list, or a file.

use crate::data::prompts;
use crate::progress::Progress;
use crate::settings::{ConfigError, Document};
use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::path::Path;
use toml::Value;

fn given<'a>(document: &'a Document, table: &str) -> Option<&'a Value> {
    document.table.get(table).and_then(|t| t.get("prompts"))
}

/// The prompts of the file in a table's `prompts`; `None` without a file.
///
/// # Errors
/// A missing ([`ConfigError`]) or unreadable file: the text names key, file and row.
pub fn of_file(document: &Document, table: &str) -> Result<Option<Vec<String>>> {
    let Some(file) = given(document, table).and_then(Value::as_str) else { return Ok(None) };
    if let Err(e) = std::fs::metadata(file) {
        bail!(ConfigError(format!(
            "{}: {table}.prompts = \"{file}\": cannot read the file: {e}. Give a list, or a file of prompts.",
            document.file
        )));
    }
    let read = prompts::read(Path::new(file), None).with_context(|| format!("{}: {table}.prompts", document.file))?;
    Ok(Some(read))
}

/// The prompts of a table's `prompts`, as list or file: blank ones skipped, each once, in order of first appearance;
/// none for a method without prompts. Left-out prompts are reported.
///
/// # Errors
/// Those of [`of_file`]; a file with blank prompts only.
pub fn of_table(document: &Document, table: &str, progress: &dyn Progress) -> Result<Vec<String>> {
    let list = given(document, table).and_then(Value::as_array);
    let all = match list {
        Some(list) => list.iter().filter_map(Value::as_str).map(String::from).collect(),
        None => of_file(document, table)?.unwrap_or_default(),
    };
    let read = all.len();
    let written: Vec<String> = all.into_iter().filter(|prompt| !prompt.trim().is_empty()).collect();
    let (blank, written_len) = (read - written.len(), written.len());
    if read > 0 && written.is_empty() {
        bail!("{}: {table}.prompts: all {read} prompts are blank; give prompts with text", document.file);
    }
    let mut seen = HashSet::new();
    let once: Vec<String> = written.into_iter().filter(|prompt| seen.insert(prompt.clone())).collect();
    let repeated = written_len - once.len();
    if blank > 0 {
        progress.line(&format!("{table}.prompts: {blank} of {read} prompts are blank: passed over"));
    }
    if repeated > 0 {
        progress
            .line(&format!("{table}.prompts: {repeated} of {read} prompts repeat an earlier one: each counts once"));
    }
    Ok(once)
}

/// Warns of held-out prompts that are trained on, whose rewards are not held-out rewards.
pub fn say_overlap(trained: &[String], held_out: &[String], progress: &dyn Progress) {
    let trained: HashSet<&String> = trained.iter().collect();
    let both: Vec<&String> = held_out.iter().filter(|prompt| trained.contains(prompt)).collect();
    if let Some(first) = both.first() {
        progress.line(&format!(
            "validate.prompts: {} of {} prompts are trained on too, {first:?} for one: their rewards predict little for other prompts",
            both.len(),
            held_out.len()
        ));
    }
}
