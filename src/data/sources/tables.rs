//! Files of rows with named fields, row by row: .json, .jsonl, .csv, .tsv and .parquet.

use super::files::ending;
use super::house_rows::{Fields, kind_of};
use super::lines::each_line;
use crate::data::containers::parquet;
use crate::data::prompts;
use crate::data::row::Place;
use anyhow::{Context, Result, anyhow, bail};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt::Formatter;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

/// Endings of the files that [`each`] reads.
pub const ENDINGS: [&str; 5] = ["json", "jsonl", "csv", "tsv", "parquet"];

/// Receives the rows of a table, or why one has no fields.
pub type TakeFields<'a> = dyn FnMut(Place, Result<Fields, String>) -> Result<()> + 'a;

/// Passes the rows of a file by its ending. A cell of a spreadsheet that is empty has no field.
///
/// # Errors
/// An unreadable file, another ending; those of `take`.
pub fn each(path: &Path, take: &mut TakeFields) -> Result<()> {
    let file: Arc<Path> = path.into();
    let mut at = |row: usize, fields: Result<Fields, String>| take(Place { file: file.clone(), row }, fields);
    match ending(path).as_str() {
        "json" => json_list(path, &mut at),
        "jsonl" => each_line(path, &mut |row, line| match line.trim_ascii().is_empty() {
            true => Ok(()),
            false => at(row, serde_json::from_slice(line).map_err(|e| format!("not valid JSON: {e}")).and_then(object)),
        }),
        "csv" | "tsv" => spreadsheet(path, &mut at),
        "parquet" => {
            // Columns of images are not read here: a row group of them can be larger than the memory.
            let columns = parquet::Columns::of(path)?;
            parquet::rows(path, &|name| columns.image(name).is_none(), &mut |row, fields| {
                at(row as usize + 1, Ok(fields))
            })
        }
        _ => bail!("{}: expected a name ending in .{}", path.display(), ENDINGS.join(", .")),
    }
}

/// The fields of the first row; `None` for a file without one, or one that is no table.
pub fn first(path: &Path) -> Option<Fields> {
    let mut found = None;
    let read = each(path, &mut |_, fields| {
        found = fields.ok();
        bail!("one row is enough")
    });
    drop(read);
    found
}

fn object(value: Value) -> Result<Fields, String> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(format!("expected a JSON object, found {}", kind_of(&other))),
    }
}

fn spreadsheet(path: &Path, take: &mut dyn FnMut(usize, Result<Fields, String>) -> Result<()>) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let refused = |e: String| anyhow!("{} {e}", path.display());
    let text = prompts::text(&bytes).map_err(refused)?;
    let separator = if ending(path) == "tsv" { b'\t' } else { prompts::separator(&text) };
    let prompts::Table { names, rows } = prompts::Table::parse(&text, separator).map_err(refused)?;
    if let Some((place, twice)) = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
        bail!(
            "{} row 1: two columns are named {twice:?}, the second is number {}; rename one",
            path.display(),
            place + 1
        );
    }
    for (row, cells) in rows {
        let filled = names.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
        take(row, Ok(filled.map(|(name, cell)| (name.clone(), Value::String(cell))).collect()))?;
    }
    Ok(())
}

/// The entries of a JSON list, one in memory at a time.
fn json_list(path: &Path, take: &mut dyn FnMut(usize, Result<Fields, String>) -> Result<()>) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut stopped = None;
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(file));
    let read = Entries { take, stopped: &mut stopped }.deserialize(&mut json).and_then(|()| json.end());
    match (stopped, read) {
        (Some(error), _) => Err(error),
        (None, Err(e)) => bail!("{}: not a JSON list of objects: {e}", path.display()),
        (None, Ok(())) => Ok(()),
    }
}

struct Entries<'a> {
    take: &'a mut dyn FnMut(usize, Result<Fields, String>) -> Result<()>,
    /// The error that ended the reading, which serde would turn into text.
    stopped: &'a mut Option<anyhow::Error>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(value) = list.next_element::<Value>()? {
            number += 1;
            if let Err(error) = (self.take)(number, object(value)) {
                *self.stopped = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
