//! Lists of scorers in [reward]: `{ name = "style", weight = 1.0, path = "judge" }` each.

use crate::keys::{Choice, Range, nearest};
use crate::scorers::{Answers, declaration};
use toml::{Table, Value};

/// A list of scorers: its keys, and whether it must not be empty.
struct List {
    form: &'static str,
    keys: &'static [&'static str],
    weighed: bool,
    required: bool,
}

const WEIGHED: List = List {
    form: "{ name, weight = 1, measure, path }",
    keys: &["name", "weight", "measure", "path"],
    weighed: true,
    required: true,
};
const WATCHED: List =
    List { form: "{ name, measure, path }", keys: &["name", "measure", "path"], weighed: false, required: false };
const JUDGES: List = List {
    form: "{ name, weight = 1, measure, path, answers = \"score\", orders = 2, tie_zone = 0, sharpness }",
    keys: &["name", "weight", "measure", "path", "answers", "orders", "tie_zone", "sharpness"],
    weighed: true,
    required: false,
};

/// [`check`] for scorers with weights.
pub fn check_weighed(value: &Value) -> Result<Value, String> {
    check(value, &WEIGHED)
}

/// [`check`] for watched scorers.
pub fn check_watched(value: &Value) -> Result<Value, String> {
    check(value, &WATCHED)
}

/// [`check`] for judges of pairs of pictures.
pub fn check_judges(value: &Value) -> Result<Value, String> {
    check(value, &JUDGES)
}

/// The list with every default written out, keys in the order of its form.
///
/// # Errors
/// A text that names the expected form and the entry, counted from 1.
fn check(value: &Value, of: &List) -> Result<Value, String> {
    let expected = |why: String| format!("a list of {}{why}", of.form);
    let list = value.as_array().ok_or_else(|| expected(String::new()))?;
    if list.is_empty() && of.required {
        return Err(expected(", at least one of them".into()));
    }
    let mut checked: Vec<Table> = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let number = index + 1;
        let entry = check_entry(entry, of).map_err(|why| expected(format!("; entry {number} {why}")))?;
        let same = |other: &Table| ["name", "measure", "path"].iter().all(|key| other.get(*key) == entry.get(*key));
        if let Some(first) = checked.iter().position(same) {
            return Err(expected(format!("; entry {number} is entry {} again, remove one of them", first + 1)));
        }
        checked.push(entry);
    }
    Ok(Value::Array(checked.into_iter().map(Value::Table).collect()))
}

/// The keys of a judge beside those of every scorer, with their defaults.
fn judge_keys(given: &Table, out: &mut Table) -> Result<(), String> {
    let answers = match given.get("answers") {
        None => Answers::Score,
        Some(given) => given
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| format!("has answers = {given}, expected \"{}\"", Answers::NAMES.join("\" or \"")))?,
    };
    let orders = given.get("orders").map_or(Some(2), Value::as_integer).filter(|orders| [1, 2].contains(orders));
    let orders = orders.ok_or_else(|| format!("has orders = {}, expected 1 or 2", given["orders"]))?;
    let number = |key: &str, range: Range| match given.get(key) {
        None => Ok(None),
        Some(given) => match range.number(given) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("has {key} = {given}, expected {}", range.words())),
        },
    };
    let (tie_zone, sharpness) = (number("tie_zone", Range::NOT_NEGATIVE)?, number("sharpness", Range::POSITIVE)?);
    match (answers, sharpness, tie_zone) {
        (Answers::Compare, Some(_), _) => {
            return Err("has a sharpness, which is for answers = \"score\": remove it".into());
        }
        (_, Some(_), Some(_)) => return Err("has a sharpness and a tie_zone: remove one of them".into()),
        (Answers::Score | Answers::Compare, _, _) => {}
    }
    if answers == Answers::Compare && given.contains_key("measure") {
        return Err("has a measure, which is for answers = \"score\": remove it".into());
    }
    out.insert("answers".into(), Value::String(answers.to_string()));
    out.insert("orders".into(), Value::Integer(orders));
    out.insert("tie_zone".into(), Value::Float(tie_zone.unwrap_or(0.0)));
    if let Some(sharpness) = sharpness {
        out.insert("sharpness".into(), Value::Float(sharpness));
    }
    Ok(())
}

/// One entry, or its error.
fn check_entry(entry: &Value, of: &List) -> Result<Table, String> {
    let given = entry.as_table().ok_or_else(|| format!("is {entry}"))?;
    let (keys, weighed) = (of.keys, of.weighed);
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
    if keys.contains(&"answers") {
        judge_keys(given, &mut out)?;
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
