//! Our own files: one JSON object per line (docs/train.md, "Data").

use super::files::Files;
use super::format::Format;
use super::house_rows::{self, Find};
use super::imagefolder;
use super::lines::each_line;
use super::source::{Source, Take};
use crate::data::image_ref::ImageRef;
use crate::data::item::ItemKind;
use crate::data::row::{Entry, Place};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub struct Jsonl;

impl Source for Jsonl {
    fn format(&self) -> Format {
        Format::Pairs
    }

    fn expects(&self) -> &'static str {
        "exactly one .jsonl file, as pairs.jsonl, lists.jsonl or labels.jsonl"
    }

    fn recognises(&self, files: &Files) -> Result<bool> {
        let found = files.with(&["jsonl"]);
        Ok(match found.as_slice() {
            [] => false,
            // Refused with the names by `index`.
            [_, _, ..] => true,
            [one] => !imagefolder::is_metadata(one),
        })
    }

    fn index(&self, files: &Files) -> Result<PathBuf> {
        match files.is_folder {
            true => files.only(&["jsonl"]).cloned(),
            false => Ok(files.path.clone()),
        }
    }

    fn is_one_file(&self) -> bool {
        true
    }

    fn read(&self, files: &Files, _: ItemKind, take: &mut Take) -> Result<()> {
        let path = self.index(files)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        // Whoever writes our own files may name images anywhere.
        let find: &Find = &|image| Ok(ImageRef::File(folder.join(image)));
        let file: Arc<Path> = path.as_path().into();
        each_line(&path, &mut |row, line| {
            let place = Place { file: file.clone(), row };
            let Ok(line) = std::str::from_utf8(line) else {
                return take(place, Err("not valid UTF-8; save the file as UTF-8".into()));
            };
            match line.trim().is_empty() {
                true => Ok(()),
                false => take(place, house_rows::parse(line, find).map(Entry::from)),
            }
        })
    }
}
