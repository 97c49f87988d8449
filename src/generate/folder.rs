//! The output folder: PNG files and images.jsonl, one line per picture.

use super::record::{Record, first_difference, parameters};
use crate::machine::files::{sync_dir, write_atomically};
use crate::painting::{read_png_text, write_png};
use anyhow::{Context, Result, bail};
use image::RgbImage;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const INDEX: &str = "images.jsonl";
const PICTURES: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// An output folder while pictures are added.
pub struct OutFolder {
    dir: PathBuf,
    /// Opened for the first picture. A call refused before it leaves no folder, which would block the next call.
    index: Option<File>,
    records: BTreeMap<String, Record>,
    /// Existing pictures that cannot be read whole; they are made again.
    pub damaged: Vec<String>,
}

/// Makes the folder, and refuses one with pictures unless they are resumed. Cheap: called before weights load.
pub fn prepare(dir: &Path, resume: bool) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the output folder {}", dir.display()))?;
    if resume {
        return Ok(());
    }
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read {}", dir.display()))?.file_name();
        let ending = Path::new(&name).extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if name == INDEX || PICTURES.contains(&ending.as_str()) {
            bail!(
                "{} holds pictures already ({}); give another --out, or --resume to keep those that are equal and make the rest",
                dir.display(),
                name.to_string_lossy()
            );
        }
    }
    Ok(())
}

impl OutFolder {
    /// Reads a prepared folder: `planned` are the records to come. An existing picture with a different record is
    /// refused by name and key, without any change.
    pub fn open(dir: &Path, planned: &[Record]) -> Result<Self> {
        let mut records = read_index(&dir.join(INDEX))?;
        records.retain(|file, _| dir.join(file).is_file());
        let mut damaged = Vec::new();
        for asked in planned {
            let path = dir.join(&asked.file);
            if !path.is_file() {
                continue;
            }
            if image::open(&path).is_err() {
                records.remove(&asked.file);
                damaged.push(asked.file.clone());
                continue;
            }
            // A run killed between picture and line left the record only in the picture.
            let there = match records.get(&asked.file) {
                Some(record) => record.clone(),
                None => embedded(&path)?,
            };
            if let Some((key, there, asked)) = first_difference(&there, asked)? {
                bail!(
                    "{} was made with another {key}: {there} there, {asked} asked for; \
                     give another --out, or the options of that run",
                    path.display()
                );
            }
            records.insert(asked.file.clone(), there);
        }
        let folder = Self { dir: dir.to_path_buf(), index: None, records, damaged };
        if !folder.records.is_empty() {
            folder.write_index()?;
        }
        Ok(folder)
    }

    /// Whether the picture exists with an equal record.
    pub fn has(&self, record: &Record) -> bool {
        self.records.contains_key(&record.file)
    }

    /// The existing records, including values known only after painting; planned records for missing pictures.
    pub fn records_of(&self, planned: &[Record]) -> Vec<Record> {
        planned.iter().map(|record| self.records.get(&record.file).unwrap_or(record).clone()).collect()
    }

    /// Writes a picture, whole or not at all, then its line.
    pub fn add(&mut self, record: &Record, image: &RgbImage) -> Result<()> {
        let path = self.dir.join(&record.file);
        let json = record.to_json()?;
        write_png(&path, image, &[("parameters", &parameters(record)), ("diffpref", &json)])?;
        let line = format!("{json}\n");
        let index = self.dir.join(INDEX);
        let opened = match self.index.take() {
            Some(file) => Ok(file),
            None => OpenOptions::new().append(true).create(true).open(&index),
        };
        let written = opened.and_then(|mut file| file.write_all(line.as_bytes()).map(|()| file));
        self.index = Some(written.with_context(|| format!("cannot write {}", index.display()))?);
        self.records.insert(record.file.clone(), record.clone());
        Ok(())
    }

    /// Sorts the lines by file and syncs them.
    pub fn close(self) -> Result<()> {
        self.write_index()?;
        sync_dir(&self.dir)
    }

    fn write_index(&self) -> Result<()> {
        let lines = self.records.values().map(|record| Ok(format!("{}\n", record.to_json()?)));
        let text: String = lines.collect::<serde_json::Result<_>>()?;
        write_atomically(&self.dir.join(INDEX), text.as_bytes())
    }
}

/// Lines by file name. A last line without an end was torn by a crash and counts as absent.
fn read_index(path: &Path) -> Result<BTreeMap<String, Record>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut records = BTreeMap::new();
    for (row, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
        let record: Record = serde_json::from_str(line).with_context(|| {
            format!("{} row {}: not the record of a picture; remove the line", path.display(), row + 1)
        })?;
        records.insert(record.file.clone(), record);
    }
    Ok(records)
}

fn embedded(path: &Path) -> Result<Record> {
    let text = read_png_text(path, "diffpref");
    match text.and_then(|text| serde_json::from_str(&text).ok()) {
        Some(record) => Ok(record),
        None => {
            bail!("{} is in the way: it was not made by this program; give another --out or move it", path.display())
        }
    }
}
