//! HPDv2 (ymhao/HPDv2, zhwang/HPDv2): train.json with pairs, test.json with rankings, images in folders beside them.

use super::files::Files;
use super::format::Format;
use super::house_rows::{Fields, present, text};
use super::ranked::{Ranked, ranks};
use super::source::{Source, Take};
use super::tables;
use crate::data::image_ref::ImageRef;
use crate::data::item::{ItemKind, Preference};
use crate::data::row::{Entry, Row};
use anyhow::Result;
use serde_json::Value;
use std::path::PathBuf;

/// Fields of the paths; converted copies have the second one in train.json too.
const PATHS: [&str; 2] = ["file_path", "image_path"];

pub struct Hpdv2;

impl Source for Hpdv2 {
    fn format(&self) -> Format {
        Format::Hpdv2
    }

    fn expects(&self) -> &'static str {
        "train.json (prompt, file_path, human_preference) or test.json (prompt, image_path, rank), images in train/ or test/"
    }

    fn recognises(&self, files: &Files) -> Result<bool> {
        let row = files.with(&["json"]).into_iter().find_map(|file| tables::first(file));
        let has = |fields: &Fields, name: &str| present(fields, name).is_some();
        Ok(row.is_some_and(|row| {
            PATHS.iter().any(|name| has(&row, name)) && (has(&row, "human_preference") || has(&row, "rank"))
        }))
    }

    fn index(&self, files: &Files) -> Result<PathBuf> {
        files.only(&["json"]).cloned()
    }

    fn is_one_file(&self) -> bool {
        true
    }

    fn read(&self, files: &Files, wanted: ItemKind, take: &mut Take) -> Result<()> {
        let path = self.index(files)?;
        let split = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Decided by the first image: names are relative to the folder, or to the folder of the split in it.
        let mut below: Option<String> = None;
        tables::each(&path, &mut |place, fields| {
            let rows = fields.and_then(|fields| {
                let names = names(&fields)?;
                let folder = below.get_or_insert_with(|| match names.first() {
                    Some(name) if files.root.join(name).is_file() => String::new(),
                    _ => format!("{split}/"),
                });
                let images =
                    names.iter().map(|name| files.image(&format!("{folder}{name}"))).collect::<Result<_, _>>()?;
                rows(&fields, images, place.row - 1, wanted)
            });
            match rows {
                Ok(rows) => rows.into_iter().try_for_each(|row| take(place.clone(), Ok(Entry::from(row)))),
                Err(problem) => take(place, Err(problem)),
            }
        })
    }
}

fn names(fields: &Fields) -> Result<Vec<String>, String> {
    let found = PATHS.iter().find_map(|name| present(fields, name));
    let texts = found.and_then(Value::as_array).map(|list| list.iter().map(|name| name.as_str().map(String::from)));
    let texts: Option<Vec<String>> = texts.and_then(Iterator::collect);
    texts.ok_or_else(|| {
        format!("expected `file_path` or `image_path` with a list of paths, found {}", found.unwrap_or(&Value::Null))
    })
}

fn rows(fields: &Fields, images: Vec<ImageRef>, number: usize, wanted: ItemKind) -> Result<Vec<Row>, String> {
    let prompt = text(fields, "prompt")?;
    if let Some(value) = present(fields, "rank") {
        return Ranked { id: None, prompt, images, ranks: ranks("rank", value)? }.rows(number, wanted);
    }
    let preference = present(fields, "human_preference");
    let votes = preference.map(|value| ranks("human_preference", value)).transpose()?;
    let (Some([first, second]), 2) = (votes.as_deref(), images.len()) else {
        let found = preference.unwrap_or(&Value::Null);
        return Err(format!(
            "expected two images and `human_preference` = [1, 0] or [0, 1], found {} and {found}",
            images.len()
        ));
    };
    let mut row = Row::new(prompt, images, Preference::Pair { tie: first == second });
    if second > first {
        row.images.reverse();
    }
    Ok(vec![row])
}
