//! Reads preference pairs from pairs.jsonl and parts them into training and validation.

use super::draws::held_out;
use super::rows::{self, Row};
use crate::hashes;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// A prompt and two images of it, of which a person or a scorer preferred the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The row's id as text, or its 0-based number: the last id of every draw of this pair.
    pub id: String,
    pub prompt: String,
    pub winner: PathBuf,
    pub loser: PathBuf,
    /// No preference between the two.
    pub tie: bool,
    pub weight: Option<f64>,
    /// Scorer -> scores of winner and loser.
    pub scores: BTreeMap<String, [f64; 2]>,
    /// 0-based row of the file.
    pub row: usize,
}

/// `[data] format`. The kind of a row follows from its fields; naming it only sharpens the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Auto,
    Pairs,
}

/// `[data] ties`: what happens to rows labelled "tie". (Keeping them needs a method with a model of ties.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ties {
    #[default]
    Drop,
    Error,
}

/// Which pairs are held out for validation.
#[derive(Debug, Clone, PartialEq)]
pub enum Holdout {
    /// All pairs of about this fraction of the prompts, see [`held_out`].
    Fraction(f64),
    /// The pairs of another file (or folder); nothing is held out of the training file.
    File(PathBuf),
}

/// What to read and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    pub path: PathBuf,
    pub format: Format,
    pub ties: Ties,
    pub holdout: Holdout,
}

/// The pairs of a run, in the order of their file.
#[derive(Debug, Clone, PartialEq)]
pub struct PairSet {
    pub train: Vec<Pair>,
    pub validation: Vec<Pair>,
    /// The file that was read.
    pub index: PathBuf,
    /// SHA-256 of the index file (with a validation file: of both hashes).
    pub index_sha256: String,
    /// Rows of the index.
    pub rows: usize,
    /// Ids of the ties that were dropped.
    pub dropped_ties: Vec<String>,
    /// Fields of rows that are no part of a pair, and were not read.
    pub ignored_fields: BTreeSet<String>,
}

impl PairSet {
    /// Reads and checks every row. Only the index is read, not the images.
    ///
    /// # Errors
    /// A row that does not parse, a missing field, a duplicate id, ties where they are refused, no pairs at all: the
    /// text names file and line.
    pub fn read(options: &ReadOptions) -> Result<Self> {
        let main = File::read(&options.path, options.format, options.ties)?;
        let mut set = Self {
            train: Vec::new(),
            validation: Vec::new(),
            index_sha256: main.sha256,
            rows: main.rows,
            dropped_ties: main.dropped_ties,
            ignored_fields: main.ignored_fields,
            index: main.path,
        };
        match &options.holdout {
            Holdout::Fraction(fraction) => {
                (set.validation, set.train) = main.pairs.into_iter().partition(|p| held_out(&p.prompt, *fraction));
            }
            Holdout::File(path) => {
                let other = File::read(path, options.format, options.ties).context("[validate] path")?;
                set.index_sha256 = hashes::of_bytes(format!("{}:{}", set.index_sha256, other.sha256).as_bytes());
                set.dropped_ties.extend(other.dropped_ties);
                (set.train, set.validation) = (main.pairs, other.pairs);
            }
        }
        if set.train.is_empty() {
            bail!(
                "{}: all {} pairs are held out for validation, none is left to train on; lower validate.fraction",
                set.index.display(),
                set.validation.len()
            );
        }
        Ok(set)
    }
}

/// SHA-256 of a data set: its index and the images that were read, whatever their folder is called.
/// `images` are SHA-256 digests in hex, in any order.
pub fn data_sha256<'a>(index_sha256: &str, images: impl IntoIterator<Item = &'a str>) -> String {
    let images: BTreeSet<&str> = images.into_iter().collect();
    let mut text = format!("index:{index_sha256}\n");
    for image in images {
        text.push_str(image);
        text.push('\n');
    }
    hashes::of_bytes(text.as_bytes())
}

/// One index file, read.
struct File {
    path: PathBuf,
    sha256: String,
    rows: usize,
    pairs: Vec<Pair>,
    dropped_ties: Vec<String>,
    ignored_fields: BTreeSet<String>,
}

impl File {
    fn read(path: &Path, format: Format, ties: Ties) -> Result<Self> {
        let path = find(path)?;
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let sha256 = hashes::of_bytes(&bytes);
        let mut file =
            Self { path, sha256, rows: 0, pairs: vec![], dropped_ties: vec![], ignored_fields: BTreeSet::new() };
        // A byte order mark is how some editors begin UTF-8 files; JSON does not allow it.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut lines_by_id = HashMap::new();
        for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
            let here = || format!("{}:{}", file.path.display(), i + 1);
            let Ok(line) = std::str::from_utf8(line) else {
                bail!("{}: not valid UTF-8; save the file as UTF-8", here());
            };
            if line.trim().is_empty() {
                continue;
            }
            let row = rows::parse(line).map_err(|e| {
                let kind = if format == Format::Pairs { " (data.format is \"pairs\")" } else { "" };
                anyhow::anyhow!("{}: {e}{kind}", here())
            })?;
            let id = row.id.clone().unwrap_or_else(|| file.rows.to_string());
            if let Some(first) = lines_by_id.insert(id.clone(), i + 1) {
                bail!(
                    "{}: the id \"{id}\" stands in line {first} already; ids must be unique, rows without one are \
                       numbered from 0",
                    here()
                );
            }
            if row.tie && ties == Ties::Error {
                bail!(
                    "{}: the pair \"{id}\" is a tie and data.ties is \"error\"; remove the row or set \
                       data.ties = \"drop\"",
                    here()
                );
            }
            file.add(id, row);
        }
        file.not_empty()
    }

    fn add(&mut self, id: String, row: Row) {
        let number = self.rows;
        self.rows += 1;
        self.ignored_fields.extend(row.unknown);
        if row.tie {
            self.dropped_ties.push(id);
            return;
        }
        let folder = self.path.parent().unwrap_or(Path::new(""));
        self.pairs.push(Pair {
            id,
            prompt: row.prompt,
            winner: folder.join(row.winner),
            loser: folder.join(row.loser),
            tie: row.tie,
            weight: row.weight,
            scores: row.scores,
            row: number,
        });
    }

    fn not_empty(self) -> Result<Self> {
        if self.pairs.is_empty() && self.rows > 0 {
            bail!(
                "{}: all {} rows are ties, which were dropped; there is nothing to train on",
                self.path.display(),
                self.rows
            );
        }
        if self.pairs.is_empty() {
            bail!(
                "{}: no pairs; expected one JSON object a line with prompt, winner and loser, found an empty file",
                self.path.display()
            );
        }
        Ok(self)
    }
}

/// `path` itself, or the one data file in the folder `path`.
fn find(path: &Path) -> Result<PathBuf> {
    let meta = std::fs::metadata(path).with_context(|| {
        format!("data.path: cannot find {}; expected a pairs.jsonl or a folder with one", path.display())
    })?;
    if !meta.is_dir() {
        return Ok(path.to_path_buf());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let file = entry.with_context(|| format!("cannot list {}", path.display()))?.path();
        if file.is_file() && file.extension().is_some_and(|e| e == "jsonl") {
            found.push(file);
        }
    }
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            bail!("data.path: the folder {} holds no .jsonl file; expected exactly one, as pairs.jsonl", path.display())
        }
        many => {
            let names: Vec<_> = many.iter().filter_map(|f| f.file_name()).map(|n| n.to_string_lossy()).collect();
            bail!(
                "data.path: the folder {} holds {} data files ({}), expected exactly one; name the file itself",
                path.display(),
                many.len(),
                names.join(", ")
            )
        }
    }
}
