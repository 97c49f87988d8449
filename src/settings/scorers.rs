//! Lists of scorers in [reward]: `{ name = "style", weight = 1.0, path = "judge" }` each.

use crate::keys::{Range, nearest};
use crate::reward;
use toml::{Table, Value};

/// As [`check`], of scorers with weights.
pub fn check_weighed(value: &Value) -> Result<Value, String> {
    check(value, true)
}

/// As [`check`], of scorers that only watch.
pub fn check_watched(value: &Value) -> Result<Value, String> {
    check(value, false)
}

/// The list with every default written out, keys in the order name, weight, path.
///
/// # Errors
/// A text that says what was expected, and of which entry, counted from 1.
fn check(value: &Value, weighed: bool) -> Result<Value, String> {
    let form = if weighed { "{ name, weight = 1, path }" } else { "{ name, path }" };
    let expected = |why: String| format!("a list of {form}{why}");
    let list = value.as_array().ok_or_else(|| expected(String::new()))?;
    if list.is_empty() && weighed {
        return Err(expected(", at least one of them".into()));
    }
    let mut checked: Vec<Table> = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let number = index + 1;
        let entry = check_entry(entry, weighed).map_err(|why| expected(format!("; entry {number} {why}")))?;
        let same = |other: &Table| ["name", "path"].iter().all(|key| other.get(*key) == entry.get(*key));
        if let Some(first) = checked.iter().position(same) {
            return Err(expected(format!("; entry {number} is entry {} again, remove one of them", first + 1)));
        }
        checked.push(entry);
    }
    Ok(Value::Array(checked.into_iter().map(Value::Table).collect()))
}

/// One entry, or what is wrong with it.
fn check_entry(entry: &Value, weighed: bool) -> Result<Table, String> {
    let given = entry.as_table().ok_or_else(|| format!("is {entry}"))?;
    let keys: &[&str] = if weighed { &["name", "weight", "path"] } else { &["name", "path"] };
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
    let kind = reward::kind(&name).map_err(|_| unknown_name(&name))?;
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
    match (&kind.folder, given.get("path")) {
        (Some(_), _) => drop(out.insert("path".into(), Value::String(text("path")?))),
        (None, Some(_)) => return Err(format!("has a path, and \"{}\" reads no files: remove it", kind.name)),
        (None, None) => {}
    }
    Ok(out)
}

fn unknown_name(name: &str) -> String {
    let names = reward::names();
    let known = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" | ");
    if reward::NOT_BUILT.contains(&name) {
        return format!("has name = \"{name}\", which is not built yet: take {known}");
    }
    let hint = nearest(name, &names).map_or(String::new(), |known| format!(" (did you mean \"{known}\"?)"));
    format!("has name = \"{name}\", expected {known}{hint}")
}

/// The list without paths: what of it must stay when contents move.
pub fn without_paths(value: &Value) -> Value {
    let mut value = value.clone();
    for entry in value.as_array_mut().into_iter().flatten() {
        if let Some(entry) = entry.as_table_mut() {
            entry.remove("path");
        }
    }
    value
}
