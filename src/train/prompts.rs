//! Prompts of the configuration: a list, or a file.

use crate::data::prompts;
use crate::keys::ConfigError;
use crate::progress::Progress;
use crate::settings::Prompts;
use anyhow::{Context, Result, bail};
use std::collections::HashSet;

/// The prompts of the file in a table's `prompts`; `None` without a file.
///
/// # Errors
/// A missing ([`ConfigError`]) or unreadable file: the text names key, file and row.
pub fn of_file(config: &str, table: &str, given: Option<&Prompts>) -> Result<Option<Vec<String>>> {
    let Some(Prompts::File(file)) = given else { return Ok(None) };
    if let Err(e) = std::fs::metadata(file) {
        bail!(ConfigError(format!(
            "{config}: {table}.prompts = \"{}\": cannot read the file: {e}. Give a list, or a file of prompts.",
            file.display()
        )));
    }
    let read = prompts::read(file, None).with_context(|| format!("{config}: {table}.prompts"))?;
    Ok(Some(read))
}

/// The prompts of a table's `prompts`, as list or file: blank ones skipped, each once, in order of first appearance;
/// none for a method without prompts. Left-out prompts are reported.
///
/// # Errors
/// Those of [`of_file`]; a file with blank prompts only.
pub fn of_table(config: &str, table: &str, given: Option<&Prompts>, progress: &dyn Progress) -> Result<Vec<String>> {
    let all = match given {
        Some(Prompts::List(list)) => list.clone(),
        Some(Prompts::File(_)) | None => of_file(config, table, given)?.unwrap_or_default(),
    };
    let read = all.len();
    let written: Vec<String> = all.into_iter().filter(|prompt| !prompt.trim().is_empty()).collect();
    let (blank, written_len) = (read - written.len(), written.len());
    if read > 0 && written.is_empty() {
        bail!("{config}: {table}.prompts: all {read} prompts are blank; give prompts with text");
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
