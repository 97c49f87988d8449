//! Lists of scorers in [reward]: `{ name = "style", weight = 1.0, path = "judge" }` each.

use crate::keys::{Range, nearest};
use crate::scorers::declaration;
use toml::{Table, Value};

/// [`check`] for scorers with weights.
pub fn check_weighed(value: &Value) -> Result<Value, String> {
    check(value, true)
}

/// [`check`] for watched scorers.
pub fn check_watched(value: &Value) -> Result<Value, String> {
    check(value, false)
}

/// The list with every default written out, keys in the order name, weight, measure, path.
///
/// # Errors
/// A text that names the expected form and the entry, counted from 1.
fn check(value: &Value, weighed: bool) -> Result<Value, String> {
    let form = if weighed { "{ name, weight = 1, measure, path }" } else { "{ name, measure, path }" };
    let expected = |why: String| format!("a list of {form}{why}");
    let list = value.as_array().ok_or_else(|| expected(String::new()))?;
    if list.is_empty() && weighed {
        return Err(expected(", at least one of them".into()));
    }
    let mut checked: Vec<Table> = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let number = index + 1;
        let entry = check_entry(entry, weighed).map_err(|why| expected(format!("; entry {number} {why}")))?;
        let same = |other: &Table| ["name", "measure", "path"].iter().all(|key| other.get(*key) == entry.get(*key));
        if let Some(first) = checked.iter().position(same) {
            return Err(expected(format!("; entry {number} is entry {} again, remove one of them", first + 1)));
        }
        checked.push(entry);
    }
    Ok(Value::Array(checked.into_iter().map(Value::Table).collect()))
}

/// One entry, or its error.
fn check_entry(entry: &Value, weighed: bool) -> Result<Table, String> {
    let given = entry.as_table().ok_or_else(|| format!("is {entry}"))?;
    let keys: &[&str] = if weighed { &["name", "weight", "measure", "path"] } else { &["name", "measure", "path"] };
    if let Some(unknown) = given.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(match (nearest(unknown, keys), unknown.as_str()) {
            (_, "weight") => "has a weight, and watched scorers are only reported: remove it".into(),
            (Some(known), _) => format!("has an unknown key {unknown} (did you mean {known}?)"),
            (None, _) => format!("has an unknown key {unknown}"),
        });
    }
    let text = |key: &str| match given.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(other) => Err(format!("has {key} = {other}, expected a text")),
        None => Err(format!("has no {key}")),
    };
    let name = text("name")?;
    let declaration = declaration(&name).map_err(|unknown| format!("has name = \"{name}\", {unknown}"))?;
    let mut out = Table::new();
    out.insert("name".into(), Value::String(name));
    if weighed {
        let weight = match given.get("weight") {
            None => 1.0,
            Some(given) => Range::ANY.number(given).filter(|weight| *weight != 0.0).ok_or_else(|| {
                format!(
                    "has weight = {given}, expected a number other than 0 (reward.watch takes what is only reported)"
                )
            })?,
        };
        out.insert("weight".into(), Value::Float(weight));
    }
    if given.contains_key("measure") {
        out.insert("measure".into(), Value::String(text("measure")?));
    }
    match (&declaration.files, given.get("path")) {
        (Some(_), _) => drop(out.insert("path".into(), Value::String(text("path")?))),
        (None, Some(_)) => return Err(format!("has a path, and \"{}\" reads no files: remove it", declaration.name)),
        (None, None) => {}
    }
    Ok(out)
}

/// The list without paths: the part that must stay equal on resume.
pub fn without_paths(value: &Value) -> Value {
    let mut value = value.clone();
    for entry in value.as_array_mut().into_iter().flatten() {
        if let Some(entry) = entry.as_table_mut() {
            entry.remove("path");
        }
    }
    value
}
