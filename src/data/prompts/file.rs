//! Prompts of a file by its ending.

use super::columns::{pick, wanted};
use super::encoding::text;
use super::parquet;
use super::table::{Table, separator};
use anyhow::{Context, Result, bail};

use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Reads the prompts of a file by its ending.
///
/// | ending | content |
/// |---|---|
/// | txt | one prompt per line, blank lines skipped |
/// | csv, tsv | a header and a column; a .csv may have `,` `;` or tab between fields |
/// | jsonl | one object per line and a key |
/// | json | a list of texts, or of objects and a key |
/// | parquet | a column of texts |
///
/// Without `column` the first of prompt, caption, text, prompts counts. Capitals and blanks around names do not matter.
///
/// # Errors
/// They name the file and the row, counted from 1 including a header.
pub fn read(path: &Path, column: Option<&str>) -> Result<Vec<String>> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let read: fn(&str, Option<&str>) -> Result<Vec<String>, String> = match ending.as_str() {
        "txt" => |text: &str, _: Option<&str>| Ok(lines(text)),
        "csv" => |text: &str, column: Option<&str>| table(text, separator(text), column),
        "tsv" => |text: &str, column: Option<&str>| table(text, b'\t', column),
        "jsonl" => objects,
        "json" => list,
        "parquet" => return not_empty(path, parquet::read(open(path)?, column)),
        _ => bail!(
            "{}: cannot tell what it holds; expected a name ending in .txt, .csv, .tsv, .json, .jsonl or .parquet",
            path.display()
        ),
    };
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).with_context(|| cannot_read(path))?;
    not_empty(path, text(&bytes).and_then(|text| read(&text, column)))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| cannot_read(path))
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read the prompts {}", path.display())
}

fn not_empty(path: &Path, read: Result<Vec<String>, String>) -> Result<Vec<String>> {
    let prompts = read.map_err(|problem| anyhow::anyhow!("{} {problem}", path.display()))?;
    if prompts.is_empty() {
        bail!("{} holds no prompt", path.display());
    }
    Ok(prompts)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
}

fn table(text: &str, separator: u8, column: Option<&str>) -> Result<Vec<String>, String> {
    let Table { names, rows } = Table::parse(text, separator)?;
    let wanted = wanted(&column);
    let place = pick(&names, &wanted).map_err(|problem| format!("row 1: {problem}"))?;
    let Some(place) = place else {
        return Err(format!("row 1: no column {}; there are: {}", wanted.join(", "), names.join(", ")));
    };
    Ok(rows.into_iter().map(|(_, mut fields)| fields.swap_remove(place)).collect())
}

fn objects(text: &str, column: Option<&str>) -> Result<Vec<String>, String> {
    let wanted = wanted(&column);
    let mut prompts = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = index + 1;
        let value: Value = serde_json::from_str(line).map_err(|e| format!("row {row}: not a JSON object: {e}"))?;
        prompts.push(of_object(&value, &wanted).map_err(|problem| format!("row {row}: {problem}"))?);
    }
    Ok(prompts)
}

/// The prompts of a list, as HPSv2's and ImageReward's benchmarks are published.
fn list(text: &str, column: Option<&str>) -> Result<Vec<String>, String> {
    let values: Vec<Value> =
        serde_json::from_str(text).map_err(|e| format!("is not a JSON list of texts or objects: {e}"))?;
    let wanted = wanted(&column);
    let prompt = |(index, value): (usize, &Value)| match value {
        Value::String(prompt) => Ok(prompt.clone()),
        object => of_object(object, &wanted).map_err(|problem| format!("entry {}: {problem}", index + 1)),
    };
    values.iter().enumerate().map(prompt).collect()
}

/// The text under the first of the `wanted` keys that exists.
fn of_object(value: &Value, wanted: &[&str]) -> Result<String, String> {
    let Value::Object(object) = value else { return Err(format!("expected a JSON object, found {value}")) };
    let keys: Vec<&str> = object.keys().map(String::as_str).collect();
    let key = pick(&keys, wanted)?.map(|place| keys[place]);
    match key.and_then(|key| object.get(key)) {
        Some(Value::String(prompt)) => Ok(prompt.clone()),
        Some(other) => Err(format!("the prompt is {other}, expected a text")),
        None => Err(format!("no key {}; there are: {}", wanted.join(", "), keys.join(", "))),
    }
}
