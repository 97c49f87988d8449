//! One line of pairs.jsonl: what it must hold, and how it is refused when it does not.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The fields of a pair, and whether a row must have them.
const FIELDS: [(&str, bool); 7] = [
    ("id", false),
    ("prompt", true),
    ("winner", true),
    ("loser", true),
    ("label", false),
    ("scores", false),
    ("weight", false),
];

/// A row as the file has it: paths are not resolved yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub id: Option<String>,
    pub prompt: String,
    pub winner: String,
    pub loser: String,
    pub tie: bool,
    pub scores: BTreeMap<String, [f64; 2]>,
    pub weight: Option<f64>,
    /// Fields that are no part of a pair; they are kept out and named in the data report.
    pub unknown: Vec<String>,
}

/// Parses one line. The error says what is wrong and what to do; the caller puts file and line before it.
pub(super) fn parse(line: &str) -> Result<Row, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.split(" at line ").next().unwrap_or(&reason);
        format!("not valid JSON at column {}: {reason}; every line holds one JSON object", e.column())
    })?;
    let Value::Object(fields) = value else {
        return Err(format!("expected a JSON object with prompt, winner and loser, found {}", kind(&value)));
    };
    refuse_other_kinds(&fields)?;
    let unknown: Vec<String> = fields.keys().filter(|k| !FIELDS.iter().any(|(f, _)| f == k)).cloned().collect();
    let missing: Vec<&str> =
        FIELDS.iter().filter(|(f, must)| *must && present(&fields, f).is_none()).map(|f| f.0).collect();
    if let Some(field) = missing.first() {
        return Err(missing_field(field, &fields, &unknown));
    }
    Ok(Row {
        id: id(&fields)?,
        prompt: text(&fields, "prompt")?,
        winner: path(&fields, "winner")?,
        loser: path(&fields, "loser")?,
        tie: tie(&fields)?,
        scores: scores(&fields)?,
        weight: weight(&fields)?,
        unknown,
    })
}

/// A field's value; null counts as absent.
fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|v| !v.is_null())
}

/// Lists of images and labelled images are other kinds of rows, recognised by their fields.
fn refuse_other_kinds(fields: &Map<String, Value>) -> Result<(), String> {
    let kind = if fields.contains_key("images") {
        "a list (field `images`)"
    } else if fields.contains_key("image") {
        "a labelled image (field `image`)"
    } else {
        return Ok(());
    };
    Err(format!("this row is {kind}, which is not built yet; pairs with prompt, winner and loser are"))
}

fn missing_field(field: &str, fields: &Map<String, Value>, unknown: &[String]) -> String {
    let near = unknown.iter().filter(|u| strsim::damerau_levenshtein(&u.to_lowercase(), field) <= 2).min();
    let found = fields.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    match near {
        Some(near) => format!("missing field `{field}`; found `{near}`: rename it to `{field}`"),
        None => format!("missing field `{field}`; a pair needs prompt, winner and loser, found {found}"),
    }
}

/// A string, or a whole number as Python's `str` writes it. Other numbers have more than one spelling.
fn id(fields: &Map<String, Value>) -> Result<Option<String>, String> {
    match present(fields, "id") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(Some(n.to_string())),
        Some(other) => Err(format!("field `id`: expected a string or a whole number, found {}", kind(other))),
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    match present(fields, name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("field `{name}`: expected a string, found {}", kind(other))),
        None => Err(format!("missing field `{name}`")),
    }
}

fn path(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    let path = text(fields, name)?;
    if path.is_empty() {
        return Err(format!("field `{name}`: expected the path of an image, found an empty string"));
    }
    Ok(path)
}

fn tie(fields: &Map<String, Value>) -> Result<bool, String> {
    match present(fields, "label") {
        None => Ok(false),
        Some(Value::String(text)) if text == "tie" => Ok(true),
        Some(other) => Err(format!("field `label`: expected \"tie\" or no label, found {other}")),
    }
}

fn scores(fields: &Map<String, Value>) -> Result<BTreeMap<String, [f64; 2]>, String> {
    let Some(value) = present(fields, "scores") else { return Ok(BTreeMap::new()) };
    serde_json::from_value(value.clone())
        .map_err(|_| format!("field `scores`: expected {{\"scorer\": [winner's, loser's]}}, found {value}"))
}

fn weight(fields: &Map<String, Value>) -> Result<Option<f64>, String> {
    let Some(value) = present(fields, "weight") else { return Ok(None) };
    match value.as_f64() {
        Some(weight) if weight.is_finite() && weight >= 0.0 => Ok(Some(weight)),
        _ => Err(format!("field `weight`: expected a number of at least 0, found {value}")),
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => format!("{b}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}
