//! Pairs in one parquet file: the images in the columns winner and loser, as Hugging Face stores them.

use super::writer::{Refused, Writer, bytes, ending};
use super::written;
use crate::data::row::Row;
use anyhow::{Context, Result};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::{Map, Value};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Rows and bytes after which a row group is written.
const GROUP_ROWS: usize = 1000;
const GROUP_BYTES: usize = 64 << 20;
/// Texts beside the images; those that hold a structure are JSON.
const TEXTS: [&str; 8] = ["id", "prompt", "label", "user", "scores", "labels", "votes", "generators"];
const SCHEMA: &str = "message pairs {
    optional binary id (STRING); optional binary prompt (STRING); optional binary label (STRING);
    optional binary user (STRING); optional binary scores (STRING); optional binary labels (STRING);
    optional binary votes (STRING); optional binary generators (STRING); optional double weight;
    optional group winner { optional binary bytes; optional binary path (STRING); }
    optional group loser { optional binary bytes; optional binary path (STRING); }
}";

/// Fields and images of a row that waits for its group.
type Buffered = (Map<String, Value>, [Vec<u8>; 2]);

pub struct Parquet {
    file: SerializedFileWriter<File>,
    rows: Vec<Buffered>,
    bytes: usize,
}

impl Parquet {
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join("pairs.parquet");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        // Images are compressed already, and no two are alike: neither a codec nor a dictionary helps.
        let properties =
            WriterProperties::builder().set_compression(Compression::UNCOMPRESSED).set_dictionary_enabled(false);
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let file = SerializedFileWriter::new(file, schema, Arc::new(properties.build()))?;
        Ok(Self { file, rows: Vec::new(), bytes: 0 })
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for name in TEXTS {
            let texts = rows.iter().map(|(fields, _)| fields.get(name).map(text));
            column::<ByteArrayType>(
                &mut group,
                1,
                texts.map(|text| text.map(|text| ByteArray::from(text.into_bytes()))),
            )?;
        }
        column::<DoubleType>(
            &mut group,
            1,
            rows.iter().map(|(fields, _)| fields.get("weight").and_then(Value::as_f64)),
        )?;
        for side in 0..2 {
            let images = rows.iter().map(|(_, images)| Some(ByteArray::from(images[side].clone())));
            column::<ByteArrayType>(&mut group, 2, images)?;
            let name = |(row, images): &Buffered| {
                let id = row.get("id").and_then(Value::as_str).unwrap_or_default();
                format!("{id}.{side}.{}", ending(&images[side]))
            };
            column::<ByteArrayType>(
                &mut group,
                2,
                rows.iter().map(|row| Some(ByteArray::from(name(row).into_bytes()))),
            )?;
        }
        group.close()?;
        Ok(())
    }
}

/// Writes one optional column; `level`: the definition level of a value.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    level: i16,
    entries: impl Iterator<Item = Option<T::T>>,
) -> Result<()> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    for entry in entries {
        levels.push(if entry.is_some() { level } else { 0 });
        values.extend(entry);
    }
    let mut column = group.next_column()?.context("the file has fewer columns than its schema")?;
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    Ok(column.close()?)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

impl Writer for Parquet {
    fn add(&mut self, id: &str, row: &Row) -> Result<(), Refused> {
        let images: [Vec<u8>; 2] =
            bytes(row)?.try_into().map_err(|_| Refused::Image("a pair without two images".into()))?;
        self.bytes += images.iter().map(Vec::len).sum::<usize>();
        self.rows.push((written::fields(id, row), images));
        if self.rows.len() >= GROUP_ROWS || self.bytes >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()?;
        self.file.close().context("cannot write the parquet file")?;
        Ok(())
    }
}
