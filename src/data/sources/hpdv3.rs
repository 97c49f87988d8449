//! HPDv3 (MizzenAI/HPDv3): a JSON list of pairs, the preferred image first, images in folders beside it.

use super::files::Files;
use super::format::Format;
use super::house_rows::{Fields, present, text};
use super::source::{Source, Take};
use super::tables;
use crate::data::item::{ItemKind, Preference};
use crate::data::row::{Entry, Row};
use anyhow::Result;
use serde_json::Value;
use std::path::PathBuf;

pub struct Hpdv3;

impl Source for Hpdv3 {
    fn format(&self) -> Format {
        Format::Hpdv3
    }

    fn expects(&self) -> &'static str {
        "one .json file with prompt, path1 (the preferred image) and path2, images beside it"
    }

    fn recognises(&self, files: &Files) -> Result<bool> {
        let row = files.with(&["json"]).into_iter().find_map(|file| tables::first(file));
        Ok(row.is_some_and(|row| ["prompt", "path1", "path2"].iter().all(|name| present(&row, name).is_some())))
    }

    fn index(&self, files: &Files) -> Result<PathBuf> {
        files.only(&["json", "jsonl"]).cloned()
    }

    fn is_one_file(&self) -> bool {
        true
    }

    fn read(&self, files: &Files, _: ItemKind, take: &mut Take) -> Result<()> {
        tables::each(&self.index(files)?, &mut |place, fields| {
            take(place, fields.and_then(|fields| row(&fields, files)).map(Entry::from))
        })
    }
}

fn row(fields: &Fields, files: &Files) -> Result<Row, String> {
    let images = ["path1", "path2"].iter().map(|name| files.image(&text(fields, name)?)).collect::<Result<_, _>>()?;
    let models: Vec<String> =
        ["model1", "model2"].iter().filter_map(|name| present(fields, name)?.as_str().map(String::from)).collect();
    Ok(Row {
        share: votes(fields)?,
        generators: if models.len() == 2 { models } else { Vec::new() },
        ..Row::new(text(fields, "prompt")?, images, Preference::Pair { tie: false })
    })
}

/// Share of the votes for the preferred image. Counts that are against it are in another order, and are not read.
fn votes(fields: &Fields) -> Result<Option<f64>, String> {
    let Some(value) = present(fields, "choice_dist") else { return Ok(None) };
    let counts: Option<[f64; 2]> = serde_json::from_value::<[f64; 2]>(value.clone()).ok();
    match counts.filter(|[a, b]| *a >= 0.0 && *b >= 0.0 && a + b > 0.0) {
        Some([first, second]) => Ok((first >= second).then_some(first / (first + second))),
        None if value == &Value::from("null") => Ok(None),
        None => Err(format!("field `choice_dist`: expected two counts of votes or null, found {value}")),
    }
}
