//! Rows of the input: a folder of pictures, or a table that names them.

use crate::data::prompts::{self, Table};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Columns of pictures and of prompts, in order of preference.
const PICTURES: [&str; 4] = ["picture", "image", "file", "path"];
const PROMPTS: [&str; 3] = ["prompt", "caption", "text"];
/// Endings of pictures in a folder.
const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif"];
/// List of the pictures of `diffpref generate` in their folder.
const LIST: &str = "images.jsonl";

/// Rows of a table by column, with their numbers from 1.
type Objects = Vec<(usize, Map<String, Value>)>;

/// A picture to be rated.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub picture: PathBuf,
    pub prompt: Option<String>,
    /// Other columns, copied to the output.
    pub rest: Map<String, Value>,
    /// Place in messages.
    pub place: String,
}

/// Names of the columns; `None`: the usual ones.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    pub picture: Option<String>,
    pub prompt: Option<String>,
}

impl Columns {
    fn find<'a>(given: &'a Option<String>, usual: &'a [&'a str]) -> Vec<&'a str> {
        given.as_deref().map_or_else(|| usual.to_vec(), |name| vec![name])
    }
}

/// The rows of a folder, or of a .jsonl, .csv, .tsv or .parquet file. Paths in files are relative to them.
///
/// # Errors
/// An unreadable input, a row without a picture, no row: the text names file and row.
pub fn read(input: &Path, columns: &Columns) -> Result<Vec<Row>> {
    let meta = std::fs::metadata(input).with_context(|| {
        format!(
            "cannot find {}; expected a folder of pictures, or a .jsonl, .csv, .tsv or .parquet file",
            input.display()
        )
    })?;
    let list = input.join(LIST);
    let rows = match meta.is_dir() {
        true if list.is_file() => of_file(&list, columns)?,
        true => of_folder(input)?,
        false => of_file(input, columns)?,
    };
    if rows.is_empty() {
        let expected = match meta.is_dir() {
            true => format!("pictures ending in .{}", ENDINGS.join(", .")),
            false => "one row per picture".into(),
        };
        bail!("{} holds no picture; expected {expected}", input.display());
    }
    Ok(rows)
}

/// Pictures of a folder and its subfolders in the order of their paths; the prompt of NAME.png is the text of NAME.txt.
fn of_folder(dir: &Path) -> Result<Vec<Row>> {
    let mut pictures = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
            if path.is_dir() {
                open.push(path);
            } else if ENDINGS.contains(&ending.as_str()) {
                pictures.push(path);
            }
        }
    }
    pictures.sort();
    let row = |picture: PathBuf| {
        let caption = picture.with_extension("txt");
        let prompt = match caption.is_file() {
            false => None,
            true => {
                let bytes = std::fs::read(&caption).with_context(|| format!("cannot read {}", caption.display()))?;
                let text = prompts::text(&bytes).map_err(|e| anyhow!("{} {e}", caption.display()))?;
                Some(text.trim().to_string())
            }
        };
        Ok(Row { place: picture.display().to_string(), picture, prompt, rest: Map::new() })
    };
    pictures.into_iter().map(row).collect()
}

fn of_file(path: &Path, columns: &Columns) -> Result<Vec<Row>> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let objects: fn(&str) -> Result<Objects, String> = match ending.as_str() {
        "jsonl" => objects,
        "csv" => |text| table(text, prompts::separator(text)),
        "tsv" => |text| table(text, b'\t'),
        "parquet" => return of_parquet(path, columns),
        _ => bail!(
            "{}: cannot tell what it holds; expected a folder, or a name ending in .jsonl, .csv, .tsv or .parquet",
            path.display()
        ),
    };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parsed =
        prompts::text(&bytes).and_then(|text| objects(&text)).map_err(|e| anyhow!("{} {e}", path.display()))?;
    let row =
        |(number, object)| row(path, number, object, columns).map_err(|e| anyhow!("{}:{number}: {e}", path.display()));
    parsed.into_iter().map(row).collect()
}

/// Two columns of texts.
fn of_parquet(path: &Path, columns: &Columns) -> Result<Vec<Row>> {
    let pictures = prompts::read(path, Some(columns.picture.as_deref().unwrap_or(PICTURES[0])))
        .context("--picture-column names the column of the pictures")?;
    let texts = prompts::read(path, columns.prompt.as_deref())?;
    let row = |(i, (picture, prompt)): (usize, (String, String))| Row {
        picture: beside(path, &picture),
        prompt: Some(prompt),
        rest: Map::new(),
        place: format!("{}:{}", path.display(), i + 1),
    };
    Ok(pictures.into_iter().zip(texts).enumerate().map(row).collect())
}

fn beside(file: &Path, picture: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(picture)
}

fn row(file: &Path, number: usize, mut rest: Map<String, Value>, columns: &Columns) -> Result<Row, String> {
    let pictures = Columns::find(&columns.picture, &PICTURES);
    let found: Vec<String> = rest.keys().cloned().collect();
    let Some(picture) = prompts::pick(&found, &pictures)?.map(|place| &found[place]) else {
        return Err(format!(
            "no column {} with a picture, found {}; --picture-column names another",
            pictures.join(", "),
            found.join(", ")
        ));
    };
    let picture = match rest.remove(picture) {
        Some(Value::String(path)) if !path.is_empty() => path,
        other => return Err(format!("{picture}: expected the path of a picture, found {}", other.unwrap_or_default())),
    };
    let texts = Columns::find(&columns.prompt, &PROMPTS);
    let filled: Vec<String> = rest.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect();
    let prompt = match prompts::pick(&filled, &texts)?.map(|place| &filled[place]) {
        None if columns.prompt.is_some() => return Err(format!("no column {} with a prompt", texts.join(", "))),
        None => None,
        Some(name) => match rest.remove(name) {
            Some(Value::String(prompt)) => Some(prompt),
            other => return Err(format!("{name}: expected a text, found {}", other.unwrap_or_default())),
        },
    };
    Ok(Row { picture: beside(file, &picture), prompt, rest, place: format!("{}:{number}", file.display()) })
}

/// One object per line, with its number from 1.
fn objects(text: &str) -> Result<Objects, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let one = |(index, line): (usize, &str)| {
        let row = index + 1;
        let value: Value = serde_json::from_str(line).map_err(|e| format!("row {row}: not a JSON object: {e}"))?;
        match value {
            Value::Object(object) => Ok((row, object)),
            _ => Err(format!("row {row}: expected a JSON object, found {line}")),
        }
    };
    lines.map(one).collect()
}

/// A header and rows of texts; row 1 is the header.
fn table(text: &str, separator: u8) -> Result<Objects, String> {
    let Table { names, rows } = Table::parse(text, separator)?;
    if let Some(twice) = names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(name)) {
        return Err(format!("row 1: two columns are named {twice:?}; rename one"));
    }
    let object = |fields: Vec<String>| names.iter().cloned().zip(fields.into_iter().map(Value::from)).collect();
    Ok(rows.into_iter().map(|(number, fields)| (number, object(fields))).collect())
}
