//! scores.parquet: the rows of scores.jsonl, a column per measure.

use super::output::ScoredRow;
use crate::machine::files::write_atomically;
use anyhow::{Context, Result};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// A column with one entry per row; `None`: null.
enum Column {
    Texts(Vec<Option<String>>),
    Numbers(Vec<Option<f64>>),
    Flags(Vec<Option<bool>>),
}

impl Column {
    /// Other columns of the input keep their type where all rows agree; a mixture is text, JSON where it was none.
    fn of_values(values: &[Option<&Value>]) -> Self {
        let all = |is: fn(&Value) -> bool| values.iter().flatten().all(|value| is(value));
        if all(Value::is_number) {
            return Self::Numbers(values.iter().map(|value| value.and_then(Value::as_f64)).collect());
        }
        if all(Value::is_boolean) {
            return Self::Flags(values.iter().map(|value| value.and_then(Value::as_bool)).collect());
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
        Self::Texts(values.iter().map(|value| value.map(text)).collect())
    }

    fn described(&self, name: &str) -> Result<Arc<Type>> {
        let (physical, logical) = match self {
            Self::Texts(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Self::Numbers(_) => (Physical::DOUBLE, None),
            Self::Flags(_) => (Physical::BOOLEAN, None),
        };
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        Ok(Arc::new(builder.with_logical_type(logical).build()?))
    }

    fn write(&self, group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>) -> Result<()> {
        match self {
            Self::Texts(values) => {
                let bytes =
                    values.iter().map(|value| value.as_deref().map(|text| ByteArray::from(text.as_bytes().to_vec())));
                write_column::<ByteArrayType>(group, bytes.collect())
            }
            Self::Numbers(values) => write_column::<DoubleType>(group, values.clone()),
            Self::Flags(values) => write_column::<BoolType>(group, values.clone()),
        }
    }
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    entries: Vec<Option<T::T>>,
) -> Result<()> {
    let levels: Vec<i16> = entries.iter().map(|entry| i16::from(entry.is_some())).collect();
    let values: Vec<T::T> = entries.into_iter().flatten().collect();
    let mut column = group.next_column()?.context("the file has fewer columns than its schema")?;
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    Ok(column.close()?)
}

/// Columns of the rows: picture, prompt, SCORER.MEASURE of every measure, other columns of the input.
fn columns(rows: &[ScoredRow]) -> Vec<(String, Column)> {
    let pictures = rows.iter().map(|row| Some(row.picture.display().to_string())).collect();
    let prompts = rows.iter().map(|row| row.prompt.clone()).collect();
    let mut columns = vec![("picture".into(), Column::Texts(pictures)), ("prompt".into(), Column::Texts(prompts))];
    let names: BTreeSet<(&str, &str)> = rows
        .iter()
        .flat_map(|row| &row.scores)
        .flat_map(|(scorer, measures)| measures.keys().map(move |measure| (scorer.as_str(), measure.as_str())))
        .collect();
    columns.extend(names.into_iter().map(|(scorer, measure)| {
        let number = |row: &ScoredRow| row.scores.get(scorer)?.get(measure).copied();
        (format!("{scorer}.{measure}"), Column::Numbers(rows.iter().map(number).collect()))
    }));
    let others: BTreeSet<&str> = rows.iter().flat_map(|row| row.rest.keys()).map(String::as_str).collect();
    columns.extend(others.into_iter().map(|name| {
        let values: Vec<Option<&Value>> =
            rows.iter().map(|row| row.rest.get(name).filter(|value| !value.is_null())).collect();
        (name.to_string(), Column::of_values(&values))
    }));
    columns
}

/// Writes the rows; the file appears whole.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(path: &Path, rows: &[ScoredRow]) -> Result<()> {
    let columns = columns(rows);
    let fields = columns.iter().map(|(name, column)| column.described(name)).collect::<Result<_>>()?;
    let schema = Arc::new(Type::group_type_builder("scores").with_fields(fields).build()?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    columns.iter().try_for_each(|(_, column)| column.write(&mut group))?;
    group.close()?;
    file.close()?;
    write_atomically(path, &bytes)
}
