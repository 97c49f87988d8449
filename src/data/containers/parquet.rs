//! Rows and single cells of parquet files. Columns of images are read value by value, a page at a time.

use crate::data::unreadable::Unreadable;
use anyhow::{Context, Result, anyhow, bail};
use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// Columns of images that a thread keeps open.
const OPEN: usize = 8;

/// The names of a file's columns, with the leaf of those that hold images: bytes, or a struct with a field `bytes`.
pub struct Columns {
    pub names: Vec<String>,
    /// Column -> path of its leaf of bytes.
    images: Vec<(String, String)>,
}

impl Columns {
    /// Reads the schema of a file.
    ///
    /// # Errors
    /// A file that is not parquet.
    pub fn of(file: &Path) -> Result<Self> {
        guarded(file, || {
            let reader = open(file)?;
            let meta = reader.metadata().file_metadata();
            let fields = meta.schema_descr().root_schema().get_fields();
            let names: Vec<String> = fields.iter().map(|field| field.name().to_string()).collect();
            let images = names.iter().filter_map(|name| Some((name.clone(), leaf(meta.schema_descr(), name)?)));
            Ok(Self { images: images.collect(), names })
        })
    }

    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|column| column == name)
    }

    /// Path of the bytes of a column of images.
    pub fn image(&self, name: &str) -> Option<Arc<str>> {
        self.images.iter().find(|(column, _)| column == name).map(|(_, leaf)| leaf.as_str().into())
    }
}

/// The leaf of a column that holds the bytes of images.
fn leaf(schema: &SchemaDescriptor, name: &str) -> Option<String> {
    let column = schema.columns().iter().find(|column| {
        // Texts are bytes too: they name files.
        let plain = matches!(column.path().parts(), [only] if only == name) && column.logical_type_ref().is_none();
        let nested = matches!(column.path().parts(), [first, second] if first == name && second == "bytes");
        (plain || nested) && column.max_rep_level() == 0 && column.physical_type() == Physical::BYTE_ARRAY
    });
    column.map(|column| column.path().string())
}

/// Passes the rows of a file as JSON objects of the columns `wanted`, with their 0-based numbers.
///
/// # Errors
/// A damaged file; those of `take`.
pub fn rows(
    file: &Path,
    wanted: &dyn Fn(&str) -> bool,
    take: &mut dyn FnMut(u64, Map<String, Value>) -> Result<()>,
) -> Result<()> {
    guarded(file, || {
        let reader = open(file)?;
        let schema = reader.metadata().file_metadata().schema_descr().root_schema();
        let fields = schema.get_fields().iter().filter(|field| wanted(field.name())).cloned().collect();
        let projection = Type::group_type_builder(schema.name()).with_fields(fields).build()?;
        let rows = reader.get_row_iter(Some(projection)).with_context(|| file.display().to_string())?;
        for (number, row) in rows.enumerate() {
            let row = row.map_err(|e| anyhow!("{}:{}: {}", file.display(), number + 1, reason(&e)))?;
            take(number as u64, object(row))?;
        }
        Ok(())
    })
}

fn open(file: &Path) -> Result<SerializedFileReader<File>> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    SerializedFileReader::new(opened)
        .map_err(|e| anyhow!("{} is not a whole parquet file: {}", file.display(), reason(&e)))
}

/// The parquet crate checks its input, but some asserts fail on a damaged file.
fn guarded<T>(file: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read,
        Err(_) => bail!("{} is damaged: it breaks off inside a page; write the file again", file.display()),
    }
}

/// The crate's message without its heading.
pub(in crate::data) fn reason(error: &ParquetError) -> String {
    let text = error.to_string();
    let text = text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason).to_string();
    match error {
        ParquetError::NYI(_) => format!("{text}; write the file with snappy, zstd, gzip, lz4 or brotli"),
        _ => text,
    }
}

fn object(row: Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

fn value(field: Field) -> Value {
    let real = |x: f64| Number::from_f64(x).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(x) => x.into(),
        Field::Byte(x) => x.into(),
        Field::Short(x) => x.into(),
        Field::Int(x) | Field::Date(x) | Field::TimeMillis(x) => x.into(),
        Field::Long(x) | Field::TimeMicros(x) | Field::TimestampMillis(x) | Field::TimestampMicros(x) => x.into(),
        Field::UByte(x) => x.into(),
        Field::UShort(x) => x.into(),
        Field::UInt(x) => x.into(),
        Field::ULong(x) => x.into(),
        Field::Float16(x) => real(f64::from(f32::from(x))),
        Field::Float(x) => real(f64::from(x)),
        Field::Double(x) => real(x),
        Field::Decimal(_) => Value::String(field.to_string()),
        Field::Str(text) => Value::String(text),
        // A text without the mark of one.
        Field::Bytes(bytes) => bytes.as_utf8().map_or(Value::Null, Value::from),
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().cloned();
            entries.map(|(key, of)| (value(key).as_str().unwrap_or_default().to_string(), value(of))).collect()
        }
    }
}

thread_local! {
    /// The columns that this thread read last, the newest at the end.
    static COLUMNS: RefCell<Vec<Column>> = const { RefCell::new(Vec::new()) };
}

/// A column of images, and how far it is read.
struct Column {
    file: Arc<Path>,
    name: Arc<str>,
    reader: SerializedFileReader<File>,
    leaf: usize,
    /// First row of each row group, then the number of rows.
    starts: Vec<u64>,
    at: Option<Position>,
}

struct Position {
    group: usize,
    /// Row of the file that is read next.
    next: u64,
    pages: ColumnReaderImpl<ByteArrayType>,
}

/// The value of a binary column. Rows in ascending order are read in one pass over the pages of their row group.
///
/// # Errors
/// A missing file, a row beyond its end, an empty cell, damage.
pub fn cell(file: &Arc<Path>, column: &Arc<str>, row: u64) -> Result<Vec<u8>, Unreadable> {
    COLUMNS.with_borrow_mut(|columns| {
        let known = columns.iter().position(|known| known.file == *file && known.name == *column);
        let mut current = match known {
            Some(place) => columns.remove(place),
            None => Column::open(file, column)?,
        };
        // After an error or a panic the reader is dropped: its position is unknown.
        let read = catch_unwind(AssertUnwindSafe(|| current.read(row)));
        let read =
            read.unwrap_or_else(|_| Err(Unreadable::Damaged("the parquet file breaks off inside a page".into())));
        if read.is_ok() {
            if columns.len() >= OPEN {
                columns.remove(0);
            }
            columns.push(current);
        }
        match read?.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => Ok(bytes),
            None => Err(Unreadable::Empty),
        }
    })
}

impl Column {
    fn open(file: &Arc<Path>, column: &Arc<str>) -> Result<Self, Unreadable> {
        let opened = File::open(file).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Unreadable::Missing,
            _ => Unreadable::Io(e.to_string()),
        })?;
        let reader = SerializedFileReader::new(opened).map_err(|e| damaged(&e))?;
        let leaves = reader.metadata().file_metadata().schema_descr().columns();
        let leaf = leaves.iter().position(|leaf| leaf.path().string() == **column);
        let leaf = leaf.ok_or_else(|| Unreadable::Damaged(format!("the parquet file has no column {column}")))?;
        let mut starts = vec![0];
        for group in reader.metadata().row_groups() {
            let rows = u64::try_from(group.num_rows()).unwrap_or_default();
            starts.push(starts.last().copied().unwrap_or_default() + rows);
        }
        Ok(Self { file: file.clone(), name: column.clone(), reader, leaf, starts, at: None })
    }

    /// `None`: the cell is null.
    fn read(&mut self, row: u64) -> Result<Option<Vec<u8>>, Unreadable> {
        let group = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        if group + 1 >= self.starts.len() {
            return Err(Unreadable::Truncated);
        }
        if self.at.as_ref().is_none_or(|at| at.group != group || at.next > row) {
            let pages = self.reader.get_row_group(group).and_then(|group| group.get_column_reader(self.leaf));
            let ColumnReader::ByteArrayColumnReader(pages) = pages.map_err(|e| damaged(&e))? else {
                return Err(Unreadable::Damaged(format!("the column {} holds no bytes", self.name)));
            };
            self.at = Some(Position { group, next: self.starts[group], pages });
        }
        let Some(at) = self.at.as_mut() else { return Err(Unreadable::Truncated) };
        let ahead = (row - at.next) as usize;
        let skipped = at.pages.skip_records(ahead).map_err(|e| damaged(&e))?;
        let (mut levels, mut values): (Vec<i16>, Vec<ByteArray>) = (Vec::new(), Vec::new());
        let read = at.pages.read_records(1, Some(&mut levels), None, &mut values).map_err(|e| damaged(&e))?;
        if skipped != ahead || read.0 != 1 {
            return Err(Unreadable::Truncated);
        }
        at.next = row + 1;
        Ok(values.first().map(|value| value.data().to_vec()))
    }
}

fn damaged(error: &ParquetError) -> Unreadable {
    Unreadable::Damaged(format!("the parquet file cannot be read: {}", reason(error)))
}
