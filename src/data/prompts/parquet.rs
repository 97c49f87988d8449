//! Prompts of a parquet file: one column is read, a few hundred rows at a time.

use super::columns::{pick, wanted};
use crate::data::containers::parquet::reason;
use parquet::basic::{LogicalType, Type as Physical};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Rows read at once.
const ROWS: usize = 512;

/// The texts of a column, in the order of the rows. All codecs of the format except LZO are supported.
///
/// # Errors
/// They name the row, counted from 1: a parquet file has no header row.
pub fn read(file: File, column: Option<&str>) -> Result<Vec<String>, String> {
    // The parquet crate checks its input, but some asserts fail on a damaged file.
    match catch_unwind(AssertUnwindSafe(|| read_checked(file, column))) {
        Ok(read) => read,
        Err(_) => Err("is damaged: it breaks off inside a page; write the file again".to_string()),
    }
}

fn read_checked(file: File, column: Option<&str>) -> Result<Vec<String>, String> {
    let reader = SerializedFileReader::new(file).map_err(|e| format!("is not a parquet file: {}", reason(&e)))?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let place = find(schema, column)?;
    let descriptor = schema.column(place);
    check_text(&descriptor)?;
    let mut prompts = Vec::new();
    for group in 0..reader.num_row_groups() {
        let damaged = |prompts: &[String], e: &ParquetError| format!("row {}: {}", prompts.len() + 1, reason(e));
        let pages = reader.get_row_group(group).and_then(|group| group.get_column_reader(place));
        match pages.map_err(|e| damaged(&prompts, &e))? {
            ColumnReader::ByteArrayColumnReader(mut pages) => loop {
                let (mut levels, mut values) = (Vec::new(), Vec::new());
                let read = pages.read_records(ROWS, Some(&mut levels), None, &mut values);
                let (rows, ..) = read.map_err(|e| damaged(&prompts, &e))?;
                if rows == 0 {
                    break;
                }
                // Without nulls in the schema there are no levels.
                levels.resize(rows, descriptor.max_def_level());
                take(&levels, &descriptor, values, &mut prompts)?;
            },
            _ => return Err(format!("row {}: the column holds no text", prompts.len() + 1)),
        }
    }
    Ok(prompts)
}

/// Index of the first existing prompt column.
fn find(schema: &SchemaDescriptor, column: Option<&str>) -> Result<usize, String> {
    let fields = schema.root_schema().get_fields();
    let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
    let wanted = wanted(&column);
    let Some(name) = pick(&names, &wanted)?.map(|place| names[place]) else {
        return Err(format!("has no column {}; there are: {}", wanted.join(", "), names.join(", ")));
    };
    let alone = |c: &ColumnDescriptor| matches!(c.path().parts(), [only] if only == name) && c.max_rep_level() == 0;
    match schema.columns().iter().position(|column| alone(column)) {
        Some(place) => Ok(place),
        None => Err(format!("column {name} is nested, expected a text in each row; name another with --prompt-column")),
    }
}

fn check_text(column: &ColumnDescriptor) -> Result<(), String> {
    use LogicalType::{Enum, Json, String as Text};
    let is_text = matches!(column.logical_type_ref(), None | Some(Text | Json | Enum));
    match column.physical_type() {
        Physical::BYTE_ARRAY if is_text => Ok(()),
        other => {
            let found = match column.logical_type_ref() {
                Some(logical) => format!("{logical:?} ({other})"),
                None => other.to_string(),
            };
            Err(format!(
                "column {} holds {found}, expected texts; name another with --prompt-column",
                column.path().string()
            ))
        }
    }
}

/// Appends the texts of rows. `levels`: a row below the column's definition level is null and has no value.
fn take(
    levels: &[i16],
    column: &ColumnDescriptor,
    values: Vec<ByteArray>,
    prompts: &mut Vec<String>,
) -> Result<(), String> {
    let mut values = values.into_iter();
    for level in levels {
        let row = prompts.len() + 1;
        if *level < column.max_def_level() {
            return Err(format!("row {row}: the prompt is null, expected a text"));
        }
        let value = values.next().ok_or_else(|| format!("row {row}: the file is damaged: the value is missing"))?;
        match value.as_utf8() {
            Ok(text) => prompts.push(text.to_string()),
            Err(_) => return Err(format!("row {row}: the prompt is not UTF-8, expected a text")),
        }
    }
    Ok(())
}
