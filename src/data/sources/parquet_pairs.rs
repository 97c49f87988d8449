//! Parquet with two columns of images, the better and the worse: open-image-preferences-v1-binarized (chosen, rejected),
//! and what `diffpref data convert` writes (winner, loser).

use super::files::Files;
use super::format::Format;
use super::house_rows::{self, Fields};
use super::source::{Source, Take};
use crate::data::containers::parquet::{self, Columns};
use crate::data::image_ref::ImageRef;
use crate::data::item::ItemKind;
use crate::data::row::{Entry, Place};
use anyhow::{Result, bail};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Columns of the better and the worse image.
const SIDES: [[&str; 2]; 2] = [["winner", "loser"], ["chosen", "rejected"]];
/// Columns of the models that made them.
const MODELS: [&str; 2] = ["chosen_model", "rejected_model"];
/// Columns of prompts, in order of preference.
const PROMPTS: [&str; 3] = ["prompt", "caption", "text"];
/// Columns of open-image-preferences that say nothing about a preference.
const OTHERS: [&str; 3] = ["evolution", "category", "sub_category"];

/// Columns that may hold JSON as text, as `diffpref data convert` writes them.
const JSON: [&str; 4] = ["scores", "labels", "votes", "generators"];

pub struct ParquetPairs;

impl Source for ParquetPairs {
    fn format(&self) -> Format {
        Format::ParquetPairs
    }

    fn expects(&self) -> &'static str {
        "parquet files of one split with the columns prompt, and chosen and rejected, or winner and loser, which hold images"
    }

    fn recognises(&self, files: &Files) -> Result<bool> {
        let Some(first) = files.with(&["parquet"]).into_iter().next() else { return Ok(false) };
        Ok(sides(&Columns::of(first)?).is_some())
    }

    fn read(&self, files: &Files, _: ItemKind, take: &mut Take) -> Result<()> {
        for path in files.shards(&["parquet"])? {
            let columns = Columns::of(path)?;
            let (Some(sides), Some(prompt)) = (sides(&columns), PROMPTS.iter().find(|name| columns.has(name))) else {
                bail!(
                    "{}: expected a column prompt, and chosen and rejected, or winner and loser with images, found {}",
                    path.display(),
                    columns.names.join(", ")
                );
            };
            let file: Arc<Path> = path.as_path().into();
            let images = sides.map(|side| columns.image(side).unwrap_or_else(|| side.into()));
            let wanted = |name: &str| !sides.contains(&name) && !OTHERS.contains(&name);
            parquet::rows(path, &wanted, &mut |row, fields| {
                let place = Place { file: file.clone(), row: row as usize + 1 };
                let find = |side: &str| {
                    let column = images[usize::from(side == "loser")].clone();
                    Ok(ImageRef::Cell { file: file.clone(), column, row })
                };
                take(place, house_rows::of_fields(&renamed(fields, prompt), &find).map(Entry::from))
            })?;
        }
        Ok(())
    }
}

fn sides(columns: &Columns) -> Option<[&'static str; 2]> {
    SIDES.into_iter().find(|sides| sides.iter().all(|side| columns.image(side).is_some()))
}

/// Our own names. The values of `winner` and `loser` only say which image is meant.
fn renamed(mut fields: Fields, prompt: &str) -> Fields {
    if let Some(text) = fields.remove(prompt) {
        fields.insert("prompt".into(), text);
    }
    let models: Option<Vec<Value>> = MODELS.iter().map(|name| fields.remove(*name)).collect();
    if let Some(models) = models.filter(|models| models.iter().all(Value::is_string)) {
        fields.insert("generators".into(), Value::Array(models));
    }
    for name in JSON {
        if let Some(Value::String(text)) = fields.get(name)
            && let Ok(value) = serde_json::from_str(text)
        {
            fields.insert(name.into(), value);
        }
    }
    fields.insert("winner".into(), "winner".into());
    fields.insert("loser".into(), "loser".into());
    fields
}
