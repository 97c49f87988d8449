//! The fields of a row in our own form.

use crate::data::items::{ItemKind, Preference};
use crate::data::row::Row;
use serde_json::{Map, Value, json};

/// All fields but the images.
pub fn fields(id: &str, row: &Row) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| drop(fields.insert(name.to_string(), value));
    set("id", id.into());
    set("prompt", row.prompt.as_str().into());
    match &row.preference {
        Preference::Pair { tie: true } => set("label", "tie".into()),
        Preference::Pair { tie: false } => {}
        Preference::Label { desirable } => set("label", (*desirable).into()),
        Preference::List { phi } if row.scores.is_empty() => set("ranks", ranks(phi)),
        Preference::List { .. } => {}
    }
    if !row.scores.is_empty() {
        set("scores", json!(row.scores));
    }
    if let Some(weight) = row.weight {
        set("weight", weight.into());
    }
    if let Some(user) = &row.user {
        set("user", user.as_str().into());
    }
    if !row.labels.is_empty() {
        set("labels", json!(row.labels));
    }
    if let Some(share) = row.share {
        set("votes", json!([share, 1.0 - share]));
    }
    if !row.generators.is_empty() {
        set("generators", json!(row.generators));
    }
    fields
}

/// Ranks with the same win fractions: one more than the number of better images.
fn ranks(phi: &[f64]) -> Value {
    phi.iter().map(|own| 1 + phi.iter().filter(|other| *other > own).count()).collect()
}

/// Fields of the images of a row, by kind.
pub fn add_images(fields: &mut Map<String, Value>, kind: ItemKind, names: Vec<String>) {
    match kind {
        ItemKind::Pairs => {
            for (field, name) in ["winner", "loser"].into_iter().zip(names) {
                fields.insert(field.into(), name.into());
            }
        }
        ItemKind::Lists => drop(fields.insert("images".into(), names.into())),
        ItemKind::Labels => drop(fields.insert("image".into(), names.into_iter().next().unwrap_or_default().into())),
    }
}
