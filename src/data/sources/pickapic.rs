//! Pick-a-Pic v1 and v2 (yuvalkirstain/pickapic_v1, _v2): parquet with the bytes of two images per row.

use super::files::Files;
use super::format::Format;
use super::house_rows::{self, Fields, present, text};
use super::source::{Source, Take};
use crate::data::containers::parquet::{self, Columns};
use crate::data::image_ref::ImageRef;
use crate::data::item::{ItemKind, Preference};
use crate::data::row::{Entry, Place, Row};
use anyhow::{Result, bail};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// The columns that are read; the images are read at their place, later.
const READ: [&str; 9] = [
    "caption",
    "label_0",
    "label_1",
    "has_label",
    "user_id",
    "ranking_id",
    "num_example_per_prompt",
    "model_0",
    "model_1",
];

pub struct PickAPic;

impl Source for PickAPic {
    fn format(&self) -> Format {
        Format::PickAPic
    }

    fn expects(&self) -> &'static str {
        "parquet files of one split with the columns caption, jpg_0, jpg_1 and label_0"
    }

    fn recognises(&self, files: &Files) -> Result<bool> {
        let Some(first) = files.with(&["parquet"]).into_iter().next() else { return Ok(false) };
        let columns = Columns::of(first)?;
        Ok(columns.has("caption") && columns.has("label_0") && (columns.has("jpg_0") || columns.has("image_0_url")))
    }

    fn read(&self, files: &Files, _: ItemKind, take: &mut Take) -> Result<()> {
        for path in files.shards(&["parquet"])? {
            let columns = Columns::of(path)?;
            let (Some(first), Some(second)) = (columns.image("jpg_0"), columns.image("jpg_1")) else {
                bail!(
                    "{} has no images: expected the columns jpg_0 and jpg_1 with bytes, found {}. The sets named \
                     _no_images lack them; download the set with images",
                    path.display(),
                    columns.names.join(", ")
                );
            };
            let file: Arc<Path> = path.as_path().into();
            parquet::rows(path, &|name| READ.contains(&name), &mut |row, fields| {
                let place = Place { file: file.clone(), row: row as usize + 1 };
                let image = |column: &Arc<str>| ImageRef::Cell { file: file.clone(), column: column.clone(), row };
                take(place, entry(&fields, [image(&first), image(&second)]))
            })?;
        }
        Ok(())
    }
}

fn entry(fields: &Fields, images: [ImageRef; 2]) -> Result<Entry, String> {
    if present(fields, "has_label").and_then(Value::as_bool) == Some(false) {
        return Ok(Entry::Unlabelled);
    }
    let first = label(fields, "label_0")?;
    if present(fields, "label_1").is_some() && label(fields, "label_1")? != 1.0 - first {
        return Err(format!(
            "columns `label_0` and `label_1` are {first} and {}; expected 1 and 0, 0 and 1, or 0.5 and 0.5",
            fields.get("label_1").unwrap_or(&Value::Null)
        ));
    }
    let models: Vec<String> =
        ["model_0", "model_1"].iter().filter_map(|name| present(fields, name)?.as_str().map(String::from)).collect();
    let [a, b] = images;
    let mut row = Row::new(text(fields, "caption")?, vec![a, b], Preference::Pair { tie: first == 0.5 });
    row.id = house_rows::id_named(fields, "ranking_id")?;
    row.user = house_rows::id_named(fields, "user_id")?;
    row.weight = weight(fields)?;
    row.generators = if models.len() == 2 { models } else { Vec::new() };
    if first == 0.0 {
        row.images.reverse();
        row.generators.reverse();
    }
    Ok(row.into())
}

/// 1: this image wins, 0: the other one, 0.5: a tie.
fn label(fields: &Fields, name: &str) -> Result<f64, String> {
    match present(fields, name).and_then(Value::as_f64) {
        Some(label) if [0.0, 0.5, 1.0].contains(&label) => Ok(label),
        _ => Err(format!(
            "column `{name}`: expected 1 (the image wins), 0 or 0.5 (a tie), found {}",
            fields.get(name).unwrap_or(&Value::Null)
        )),
    }
}

/// One over the pairs of the prompt, as PickScore's training weighs them; read with `weights.source = "column"`.
fn weight(fields: &Fields) -> Result<Option<f64>, String> {
    match present(fields, "num_example_per_prompt") {
        None => Ok(None),
        Some(value) => match value.as_f64().filter(|count| *count >= 1.0) {
            Some(count) => Ok(Some(1.0 / count)),
            None => Err(format!("column `num_example_per_prompt`: expected a number of at least 1, found {value}")),
        },
    }
}
