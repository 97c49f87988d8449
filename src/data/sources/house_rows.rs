//! Our own rows: required fields, and refusals. Other formats with named fields are translated to them.

use crate::data::image_ref::ImageRef;
use crate::data::item::{ItemKind, Preference, Strength};
use crate::data::ranking::win_fractions;
use crate::data::row::Row;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Fields per kind of row, and whether they are required.
const PAIR: &[(&str, bool)] = &[
    ("id", false),
    ("prompt", true),
    ("winner", true),
    ("loser", true),
    ("label", false),
    ("scores", false),
    ("weight", false),
    ("user", false),
    ("labels", false),
    ("votes", false),
    ("strength", false),
    ("generators", false),
];
const LIST: &[(&str, bool)] = &[
    ("id", false),
    ("prompt", true),
    ("images", true),
    ("ranks", false),
    ("scores", false),
    ("user", false),
    ("generators", false),
];
const LABEL: &[(&str, bool)] =
    &[("id", false), ("prompt", true), ("image", true), ("label", true), ("generators", false)];

/// A field of one kind of row only.
const TELLING: [(&str, ItemKind); 4] =
    [("winner", ItemKind::Pairs), ("loser", ItemKind::Pairs), ("images", ItemKind::Lists), ("image", ItemKind::Labels)];

pub(super) type Fields = Map<String, Value>;

/// Turns the text that names an image into the image.
pub(super) type Find<'a> = dyn Fn(&str) -> Result<ImageRef, String> + 'a;

/// Parses one line. The error names the problem and the remedy; the caller adds file and line.
pub(super) fn parse(line: &str, find: &Find) -> Result<Row, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.split(" at line ").next().unwrap_or(&reason);
        format!("not valid JSON at column {}: {reason}; every line holds one JSON object", e.column())
    })?;
    let Value::Object(fields) = value else {
        return Err(format!("expected a JSON object with prompt, winner and loser, found {}", kind_of(&value)));
    };
    of_fields(&fields, find)
}

/// Reads the fields of one row.
pub(super) fn of_fields(fields: &Fields, find: &Find) -> Result<Row, String> {
    let kind = kind_of_row(fields)?;
    let known = match kind {
        ItemKind::Pairs => PAIR,
        ItemKind::Lists => LIST,
        ItemKind::Labels => LABEL,
    };
    let unknown: Vec<String> = fields.keys().filter(|k| !known.iter().any(|(f, _)| f == k)).cloned().collect();
    if let Some((field, _)) = known.iter().find(|(f, must)| *must && present(fields, f).is_none()) {
        return Err(missing_field(field, kind, fields, &unknown));
    }
    let blank = Row {
        id: id(fields)?,
        user: user(fields)?,
        generators: generators(fields)?,
        unknown,
        ..Row::new(text(fields, "prompt")?, Vec::new(), Preference::Pair { tie: false })
    };
    match kind {
        ItemKind::Pairs => pair(fields, blank, find),
        ItemKind::Lists => list(fields, blank, find),
        ItemKind::Labels => label(fields, blank, find),
    }
}

/// The kind follows from fields that only it has.
fn kind_of_row(fields: &Fields) -> Result<ItemKind, String> {
    let mut told = TELLING.iter().filter(|(field, _)| present(fields, field).is_some());
    let Some((field, kind)) = told.next() else {
        return Ok(match present(fields, "label") {
            Some(Value::Bool(_)) => ItemKind::Labels,
            _ if present(fields, "ranks").is_some() => ItemKind::Lists,
            _ => ItemKind::Pairs,
        });
    };
    match told.find(|(_, other)| other != kind) {
        None => Ok(*kind),
        Some((other, _)) => Err(format!(
            "found both `{field}` and `{other}`; pairs have {}, lists {}, labelled images {}: remove what does not belong",
            ItemKind::Pairs.fields(),
            ItemKind::Lists.fields(),
            ItemKind::Labels.fields()
        )),
    }
}

fn pair(fields: &Fields, row: Row, find: &Find) -> Result<Row, String> {
    let tie = match present(fields, "label") {
        None => false,
        Some(Value::String(text)) if text == "tie" => true,
        Some(other) => return Err(format!("field `label`: expected \"tie\" or no label, found {other}")),
    };
    Ok(Row {
        images: vec![path(fields, "winner", find)?, path(fields, "loser", find)?],
        preference: Preference::Pair { tie },
        scores: scores(fields, 2, "[winner's, loser's]")?,
        weight: weight(fields)?,
        labels: labels(fields)?,
        share: share(fields)?,
        strength: strength(fields)?,
        ..row
    })
}

fn list(fields: &Fields, row: Row, find: &Find) -> Result<Row, String> {
    let images = images(fields, find)?;
    let k = images.len();
    let scores = scores(fields, k, &format!("[{k} scores, one an image]"))?;
    let ranks = ranks(fields, k)?;
    let phi = match (scores.is_empty(), ranks) {
        (false, _) => win_fractions(scores.values().map(Vec::as_slice), k),
        (true, Some(ranks)) => win_fractions([ranks.as_slice()], k),
        (true, None) => {
            return Err("neither `ranks` nor `scores`: a list needs ranks = [1, 3, 2, ..] (1 = best) or \
                        scores = {\"scorer\": [..]}, one number per image"
                .into());
        }
    };
    Ok(Row { images, preference: Preference::List { phi }, scores, ..row })
}

fn label(fields: &Fields, row: Row, find: &Find) -> Result<Row, String> {
    let desirable = match present(fields, "label") {
        Some(Value::Bool(desirable)) => *desirable,
        other => {
            let found = other.map_or("nothing".into(), Value::to_string);
            return Err(format!("field `label`: expected true (desirable) or false, found {found}"));
        }
    };
    Ok(Row { images: vec![path(fields, "image", find)?], preference: Preference::Label { desirable }, ..row })
}

/// A field's value; null counts as absent.
pub(super) fn present<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|v| !v.is_null())
}

fn missing_field(field: &str, kind: ItemKind, fields: &Fields, unknown: &[String]) -> String {
    let near = unknown.iter().filter(|u| strsim::damerau_levenshtein(&u.to_lowercase(), field) <= 2).min();
    let found = fields.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    let one = match kind {
        ItemKind::Pairs => "a pair",
        ItemKind::Lists => "a list",
        ItemKind::Labels => "a labelled image",
    };
    match near {
        _ if fields.contains_key(field) => format!("field `{field}` is null; {one} needs {}", kind.fields()),
        Some(near) => format!("missing field `{field}`; found `{near}`: rename it to `{field}`"),
        None => format!("missing field `{field}`; {one} needs {}, found {found}", kind.fields()),
    }
}

fn id(fields: &Fields) -> Result<Option<String>, String> {
    id_named(fields, "id")
}

/// A string, or a whole number as Python's `str` writes it. Other numbers have more than one spelling.
pub(super) fn id_named(fields: &Fields, name: &str) -> Result<Option<String>, String> {
    match present(fields, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(Some(n.to_string())),
        Some(other) => Err(format!("field `{name}`: expected a string or a whole number, found {}", kind_of(other))),
    }
}

pub(super) fn text(fields: &Fields, name: &str) -> Result<String, String> {
    match present(fields, name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("field `{name}`: expected a string, found {}", kind_of(other))),
        None => Err(format!("missing field `{name}`")),
    }
}

fn path(fields: &Fields, name: &str, find: &Find) -> Result<ImageRef, String> {
    let path = text(fields, name)?;
    if path.is_empty() {
        return Err(format!("field `{name}`: expected the path of an image, found an empty string"));
    }
    find(&path)
}

/// At least two paths.
fn images(fields: &Fields, find: &Find) -> Result<Vec<ImageRef>, String> {
    let paths = present(fields, "images").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<String> =
        paths.iter().filter_map(Value::as_str).filter(|p| !p.is_empty()).map(String::from).collect();
    if texts.len() < 2 || texts.len() != paths.len() {
        let found = present(fields, "images").map_or("nothing".into(), Value::to_string);
        return Err(format!("field `images`: expected at least two paths of images, found {found}"));
    }
    texts.iter().map(|text| find(text)).collect()
}

/// Ranks as scores: the best, 1, is the highest. Images may share a rank.
fn ranks(fields: &Fields, k: usize) -> Result<Option<Vec<f64>>, String> {
    let Some(value) = present(fields, "ranks") else { return Ok(None) };
    let ranks: Option<Vec<u64>> =
        value.as_array().and_then(|list| list.iter().map(|rank| rank.as_u64().filter(|r| *r > 0)).collect());
    match ranks.filter(|ranks| ranks.len() == k) {
        Some(ranks) => Ok(Some(ranks.into_iter().map(|rank| -(rank as f64)).collect())),
        None => {
            Err(format!("field `ranks`: expected {k} whole numbers from 1 (the best), one an image, found {value}"))
        }
    }
}

/// Scorer -> k numbers.
fn scores(fields: &Fields, k: usize, shape: &str) -> Result<BTreeMap<String, Vec<f64>>, String> {
    let Some(value) = present(fields, "scores") else { return Ok(BTreeMap::new()) };
    serde_json::from_value(value.clone())
        .ok()
        .filter(|scores: &BTreeMap<String, Vec<f64>>| scores.values().all(|s| s.len() == k))
        .ok_or_else(|| format!("field `scores`: expected {{\"scorer\": {shape}}}, found {value}"))
}

fn weight(fields: &Fields) -> Result<Option<f64>, String> {
    let Some(value) = present(fields, "weight") else { return Ok(None) };
    match value.as_f64() {
        Some(weight) if weight.is_finite() && weight >= 0.0 => Ok(Some(weight)),
        _ => Err(format!("field `weight`: expected a number of at least 0, found {value}")),
    }
}

fn user(fields: &Fields) -> Result<Option<String>, String> {
    match present(fields, "user") {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(Some(n.to_string())),
        Some(other) => Err(format!("field `user`: expected a name or a whole number, found {other}")),
    }
}

/// The model that made each image.
fn generators(fields: &Fields) -> Result<Vec<String>, String> {
    let Some(value) = present(fields, "generators") else { return Ok(Vec::new()) };
    serde_json::from_value(value.clone())
        .map_err(|_| format!("field `generators`: expected the names of the models, one per image, found {value}"))
}

/// Dimension -> 1, 0.5 or 0.
fn labels(fields: &Fields) -> Result<BTreeMap<String, f64>, String> {
    let Some(value) = present(fields, "labels") else { return Ok(BTreeMap::new()) };
    serde_json::from_value(value.clone())
        .ok()
        .filter(|labels: &BTreeMap<String, f64>| labels.values().all(|label| [0.0, 0.5, 1.0].contains(label)))
        .ok_or_else(|| {
            format!("field `labels`: expected {{\"dimension\": 1 (the winner is better), 0.5 or 0}}, found {value}")
        })
}

/// `votes`: [for the winner, for the loser], counts or shares.
fn share(fields: &Fields) -> Result<Option<f64>, String> {
    let Some(value) = present(fields, "votes") else { return Ok(None) };
    let votes: Option<[f64; 2]> = serde_json::from_value(value.clone()).ok();
    match votes.filter(|[a, b]| *a >= 0.0 && *b >= 0.0 && a + b > 0.0 && (a + b).is_finite()) {
        Some([winner, loser]) => Ok(Some(winner / (winner + loser))),
        None => Err(format!("field `votes`: expected [for the winner, for the loser], found {value}")),
    }
}

/// `strength` of `diffpref pairs --strength` and of an ensemble of scorers.
fn strength(fields: &Fields) -> Result<Option<Strength>, String> {
    let Some(value) = present(fields, "strength") else { return Ok(None) };
    let number = |name: &str| value.get(name).and_then(Value::as_f64);
    let soft_label = match value.get("soft_label") {
        None | Some(Value::Null) => Some(None),
        Some(share) => share.as_f64().filter(|share| (0.0..=1.0).contains(share)).map(Some),
    };
    match (number("mean"), number("std").filter(|std| *std >= 0.0), soft_label) {
        (Some(mean), Some(std), Some(soft_label)) => Ok(Some(Strength { mean, std, soft_label })),
        _ => Err(format!(
            "field `strength`: expected {{\"mean\": NUMBER, \"std\": NUMBER from 0}} and for an ambiguous pair \"soft_label\" \
             in [0, 1], found {value}"
        )),
    }
}

pub(super) fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => format!("{b}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}
