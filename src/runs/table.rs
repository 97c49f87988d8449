//! Runs as rows: for a terminal, as CSV, as JSON.

use super::filter::Filter;
use super::record::Record;
use crate::keys::{ConfigError, nearest};
use anyhow::Result;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Columns if none are asked for; those without a value are left out.
const COLUMNS: [&str; 9] =
    ["path", "status", "step", "method.name", "optim.lr", "train.seed", "val_margin", "val_implicit_acc", "reason"];

/// The key that rows are sorted by.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub key: String,
    pub falling: bool,
}

impl std::str::FromStr for Order {
    type Err = String;

    /// `KEY`, or `-KEY` for the largest first.
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, falling) = text.strip_prefix('-').map_or((text, false), |key| (key, true));
        match key.is_empty() {
            true => Err("expected KEY or -KEY".into()),
            false => Ok(Self { key: key.into(), falling }),
        }
    }
}

/// Form of a list of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    Csv,
    Json,
}

/// The runs that a condition chooses, in order; runs without the key come last.
///
/// # Errors
/// A condition or a key that names what no run has.
pub fn rows(records: Vec<Record>, filter: Option<&Filter>, order: Option<&Order>) -> Result<Vec<Record>> {
    let known = keys(&records);
    if let Some(filter) = filter.filter(|_| !records.is_empty()) {
        filter.check(&known).map_err(|e| ConfigError(format!("--where {e}")))?;
    }
    let mut chosen = Vec::new();
    for record in records {
        let holds = filter.map_or(Ok(true), |filter| filter.holds(&|name: &str| record.value(name)));
        if holds.map_err(|e| ConfigError(format!("--where {e}")))? {
            chosen.push(record);
        }
    }
    if let Some(order) = order {
        check_key(&order.key, &known, "--sort")?;
        chosen.sort_by(|a, b| compared(a.value(&order.key), b.value(&order.key), order.falling));
    }
    Ok(chosen)
}

fn keys(records: &[Record]) -> BTreeSet<String> {
    records.iter().flat_map(|record| record.keys().map(String::from).collect::<Vec<_>>()).collect()
}

fn check_key(key: &str, known: &BTreeSet<String>, option: &str) -> Result<(), ConfigError> {
    if known.contains(key) || known.is_empty() {
        return Ok(());
    }
    let all: Vec<&str> = known.iter().map(String::as_str).collect();
    let hint = nearest(key, &all).map_or(String::new(), |near| format!(", did you mean {near}?"));
    Err(ConfigError(format!("{option} {key}: no run has a value named {key}{hint}")))
}

fn compared(a: Option<Value>, b: Option<Value>, falling: bool) -> Ordering {
    let order = match (&a, &b) {
        (Some(a), Some(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => a.to_string().cmp(&b.to_string()),
        },
        (Some(_), None) => return Ordering::Less,
        (None, Some(_)) => return Ordering::Greater,
        (None, None) => return Ordering::Equal,
    };
    if falling { order.reverse() } else { order }
}

/// The runs in a form. `columns`: keys; `None`: the usual ones that some run has.
///
/// # Errors
/// A column that no run has.
pub fn shown(records: &[Record], columns: Option<&[String]>, form: Form) -> Result<String> {
    let known = keys(records);
    let columns: Vec<String> = match columns {
        Some(columns) => {
            columns.iter().try_for_each(|key| check_key(key, &known, "--columns"))?;
            columns.to_vec()
        }
        None => {
            let has = |key: &&str| records.iter().any(|record| record.value(key).is_some());
            COLUMNS.iter().filter(|key| has(key)).map(|key| key.to_string()).collect()
        }
    };
    match form {
        Form::Json => json(records),
        Form::Csv => csv(records, &columns),
        Form::Text => Ok(text(records, &columns)),
    }
}

fn json(records: &[Record]) -> Result<String> {
    let whole = records.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>()?;
    Ok(format!("{}\n", serde_json::to_string_pretty(&whole)?))
}

fn csv(records: &[Record], columns: &[String]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns)?;
    for record in records {
        writer.write_record(columns.iter().map(|key| record.value(key).map_or(String::new(), |v| plain(&v))))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn text(records: &[Record], columns: &[String]) -> String {
    if records.is_empty() {
        return "no runs\n".into();
    }
    let cells = |record: &Record| -> Vec<String> {
        columns.iter().map(|key| record.value(key).map_or(String::new(), |value| rounded(&value))).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(columns.to_vec()).chain(records.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Everything known of a run, key by key.
pub fn described(record: &Record) -> String {
    let own = ["path", "status", "reason", "updated"].into_iter();
    let own = own.filter_map(|key| Some(format!("{key} = {}\n", plain(&record.value(key)?))));
    let part = |title: &str, values: &std::collections::BTreeMap<String, Value>| {
        let lines: String = values.iter().map(|(key, value)| format!("{key} = {}\n", plain(value))).collect();
        if lines.is_empty() { lines } else { format!("\n{title}\n{lines}") }
    };
    let parts = [("made by", &record.made), ("settings", &record.settings), ("metrics", &record.metrics)];
    own.chain(parts.into_iter().map(|(title, values)| part(title, values))).collect()
}

/// A value as text, whole.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// A value for a terminal: numbers with four digits.
fn rounded(value: &Value) -> String {
    match (value.as_i64(), value.as_f64()) {
        (Some(whole), _) => whole.to_string(),
        (None, Some(real)) if real == 0.0 || (1e-2..1e5).contains(&real.abs()) => {
            let text = format!("{real:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
        (None, Some(real)) => format!("{real:.3e}"),
        (None, None) => plain(value),
    }
}
