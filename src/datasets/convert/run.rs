//! A conversion, from the rows to a whole folder.

use super::jsonl::Jsonl;
use super::parquet::Parquet;
use super::webdataset::Shards;
use super::writer::{Refused, Writer};
use crate::data::items::{Format, ItemKind};
use crate::data::row::{Entry, Place};
use crate::data::sources::{self, Opened};
use crate::keys::ConfigError;
use crate::machine::files::{publish_dir, unfinished_dir};
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use std::path::{Path, PathBuf};

crate::choice! {
    /// The written format.
    pub enum Target {
        /// pairs.jsonl, lists.jsonl or labels.jsonl, and images/
        Jsonl = "jsonl",
        /// Tar shards
        WebDataset = "webdataset",
        /// One parquet file that holds the images; pairs only
        Parquet = "parquet",
    }
}

/// Options of `diffpref data convert`.
#[derive(Debug, Clone)]
pub struct ConvertRequest {
    pub path: PathBuf,
    /// `None`: recognised.
    pub format: Option<Format>,
    pub to: Target,
    /// Rankings become lists, or pairs.
    pub rankings: ItemKind,
    /// Leave rows with an unreadable image out instead of stopping.
    pub skip_unreadable: bool,
    /// A new or empty folder.
    pub out: PathBuf,
}

/// The result of a conversion.
#[derive(Debug, Clone, Serialize)]
pub struct Converted {
    pub from: Format,
    pub to: Target,
    pub rows: usize,
    /// Rows without a label.
    pub unlabelled: usize,
    /// Rows left out, with the reason.
    pub left_out: Vec<(String, String)>,
    pub out: PathBuf,
}

/// Converts a data set. The folder appears whole.
///
/// # Errors
/// A folder that is not empty; files of no known format; a row that is refused; an unreadable image; lists or labelled
/// images to parquet; `Stopped`.
pub fn convert(request: &ConvertRequest, progress: &dyn Progress, stop: &Stop) -> Result<Converted> {
    refuse_filled(&request.out)?;
    let opened = sources::open(&request.path, request.format)?;
    let total = count(&opened, request.rankings, stop)?;
    let parent = request.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let parts = unfinished_dir(parent)?;
    let mut conversion =
        Conversion { request, dir: parts.path(), writer: None, done: Converted::nothing(request, opened.format()) };
    progress.begin("convert", 0, total);
    let mut entries = 0;
    opened.read(request.rankings, &mut |place, entry| {
        stop.check()?;
        let entry = entry.map_err(|problem| anyhow!("{place}: {problem}"))?;
        conversion.add(&place, entry, entries)?;
        entries += 1;
        progress.advance(entries, "rows");
        Ok(())
    })?;
    progress.end();
    let Conversion { writer, done, .. } = conversion;
    let writer = writer.with_context(|| format!("{} holds no row that has a label", request.path.display()))?;
    writer.1.finish()?;
    publish_dir(parts, &request.out)?;
    Ok(done)
}

impl Converted {
    fn nothing(request: &ConvertRequest, from: Format) -> Self {
        Self { from, to: request.to, rows: 0, unlabelled: 0, left_out: Vec::new(), out: request.out.clone() }
    }
}

struct Conversion<'a> {
    request: &'a ConvertRequest,
    dir: &'a Path,
    /// Opened for the kind of the first row.
    writer: Option<(ItemKind, Box<dyn Writer>)>,
    done: Converted,
}

impl Conversion<'_> {
    fn add(&mut self, place: &Place, entry: Entry, number: u64) -> Result<()> {
        let row = match entry {
            Entry::Row(row) => row,
            Entry::Unlabelled => {
                self.done.unlabelled += 1;
                return Ok(());
            }
        };
        if self.writer.is_none() {
            self.done.from = self.done.from.kind().map_or(self.done.from, |_| Format::of_kind(row.kind()));
            self.writer = Some((row.kind(), opened_writer(self.request.to, row.kind(), self.dir)?));
        }
        let (kind, writer) = self.writer.as_mut().context("a writer was opened just above")?;
        if *kind != row.kind() {
            bail!("{place}: this row is one of {}, the rows before it are {}", row.kind().noun(), kind.noun());
        }
        let id = row.id.clone().unwrap_or_else(|| number.to_string());
        match writer.add(&id, &row) {
            Ok(()) => self.done.rows += 1,
            Err(Refused::Image(reason)) if self.request.skip_unreadable => {
                self.done.left_out.push((place.to_string(), reason));
            }
            Err(Refused::Image(reason)) => {
                bail!("{place}: {reason}; restore the image, or leave its row out with --skip-unreadable");
            }
            Err(Refused::Other(error)) => return Err(error),
        }
        Ok(())
    }
}

/// Number of rows. A row that is refused is found before anything is written.
fn count(opened: &Opened, rankings: ItemKind, stop: &Stop) -> Result<u64> {
    let mut rows = 0;
    opened.read(rankings, &mut |place, entry| {
        stop.check()?;
        entry.map_err(|problem| anyhow!("{place}: {problem}"))?;
        rows += 1;
        Ok(())
    })?;
    Ok(rows)
}

fn refuse_filled(out: &Path) -> Result<(), ConfigError> {
    let filled = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    match filled || out.is_file() {
        true => Err(ConfigError(format!(
            "--out {}: it exists already and is not empty; name another folder",
            out.display()
        ))),
        false => Ok(()),
    }
}

fn opened_writer(to: Target, kind: ItemKind, dir: &Path) -> Result<Box<dyn Writer>> {
    Ok(match (to, kind) {
        (Target::Jsonl, _) => Box::new(Jsonl::create(dir, kind)?),
        (Target::WebDataset, _) => Box::new(Shards::create(dir)),
        (Target::Parquet, ItemKind::Pairs) => Box::new(Parquet::create(dir)?),
        (Target::Parquet, ItemKind::Lists | ItemKind::Labels) => {
            return Err(ConfigError(format!(
                "--to parquet holds pairs, and the rows are {}; take --to jsonl or --to webdataset",
                kind.noun()
            ))
            .into());
        }
    })
}
