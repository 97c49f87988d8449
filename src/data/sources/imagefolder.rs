//! Images beside a table that names them: Hugging Face's imagefolder (metadata.csv, .jsonl or .parquet), or any table with
//! our own columns.

use super::files::{Files, ending};
use super::format::Format;
use super::house_rows::{self, Fields, present};
use super::source::{Source, Take};
use super::tables;
use crate::data::item::ItemKind;
use crate::data::row::Entry;
use anyhow::{Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Names of the table in a folder of images.
const TABLES: [&str; 3] = ["metadata.jsonl", "metadata.csv", "metadata.parquet"];
/// Column of the table -> our own field.
const RENAMED: [(&str, &str); 12] = [
    ("winner_file_name", "winner"),
    ("loser_file_name", "loser"),
    ("chosen_file_name", "winner"),
    ("rejected_file_name", "loser"),
    ("chosen", "winner"),
    ("rejected", "loser"),
    ("file_name", "image"),
    ("file_names", "images"),
    ("images_file_names", "images"),
    ("caption", "prompt"),
    ("text", "prompt"),
    ("user_id", "user"),
];
/// Fields that a spreadsheet writes as JSON text.
const JSON: [&str; 8] = ["images", "ranks", "scores", "labels", "votes", "weight", "generators", "label"];

pub struct ImageFolder;

impl Source for ImageFolder {
    fn format(&self) -> Format {
        Format::ImageFolder
    }

    fn expects(&self) -> &'static str {
        "metadata.csv, metadata.jsonl or metadata.parquet beside the images, with the columns prompt, winner_file_name and \
         loser_file_name, or file_name and label; or another .csv or .tsv with our own columns"
    }

    fn recognises(&self, files: &Files) -> Result<bool> {
        Ok(table(files).is_ok_and(|table| is_metadata(&table)))
    }

    fn index(&self, files: &Files) -> Result<PathBuf> {
        table(files)
    }

    fn is_one_file(&self) -> bool {
        true
    }

    fn read(&self, files: &Files, _: ItemKind, take: &mut Take) -> Result<()> {
        let table = table(files)?;
        let is_text = matches!(ending(&table).as_str(), "csv" | "tsv");
        let find = |path: &str| files.image(path);
        tables::each(&table, &mut |place, fields| {
            let row = fields.and_then(|fields| renamed(fields, is_text));
            take(place, row.and_then(|fields| house_rows::of_fields(&fields, &find)).map(Entry::from))
        })
    }
}

/// The table of a folder, or the file itself.
fn table(files: &Files) -> Result<PathBuf> {
    if !files.is_folder {
        return Ok(files.path.clone());
    }
    if let Some(metadata) = TABLES.iter().map(|name| files.root.join(name)).find(|file| files.files.contains(file)) {
        return Ok(metadata);
    }
    match files.with(&["csv", "tsv"]).as_slice() {
        [one] => Ok((*one).clone()),
        _ => bail!("data.path: {} holds no {}", files.path.display(), TABLES.join(" or ")),
    }
}

/// Whether the first row of a table names images in columns of this format. A file that cannot be read is no such table.
pub fn is_metadata(table: &Path) -> bool {
    let ours = matches!(ending(table).as_str(), "csv" | "tsv");
    let named = TABLES.iter().any(|name| table.file_name().is_some_and(|file| file == *name));
    if !ours && !named {
        return false;
    }
    let Some(row) = tables::first(table) else { return false };
    let names = |field: &str| ["winner", "image", "images"].contains(&field);
    row.keys().any(|column| {
        let column = column.trim().to_lowercase();
        let by_metadata = column.ends_with("file_name") || column.ends_with("file_names");
        by_metadata || (ours && (names(&column) || RENAMED.iter().any(|(from, to)| *from == column && names(to))))
    })
}

/// Our own names of columns, and values of a spreadsheet as JSON.
fn renamed(fields: Fields, is_text: bool) -> Result<Fields, String> {
    let mut out = Fields::new();
    for (column, value) in fields {
        let plain = column.trim().to_lowercase();
        let name = RENAMED.iter().find(|(from, _)| *from == plain).map_or(plain.as_str(), |(_, to)| to);
        let value = match value {
            Value::String(text) if is_text && JSON.contains(&name) => of_cell(&text),
            other => other,
        };
        if present(&out, name).is_some() {
            return Err(format!("two columns mean `{name}`, the second is {column:?}; remove one"));
        }
        out.insert(name.to_string(), value);
    }
    Ok(out)
}

/// `true`, `[1, 2]`, `0.5` as JSON, anything else as text. Spreadsheets write TRUE.
fn of_cell(text: &str) -> Value {
    let text = text.trim();
    match text {
        "TRUE" | "True" => true.into(),
        "FALSE" | "False" => false.into(),
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}
