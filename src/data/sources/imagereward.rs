//! ImageRewardDB: the repository's test.json (one ranking per entry), and the hub's metadata-*.parquet (one image per
//! row, or one pair).

use super::files::Files;
use super::format::Format;
use super::house_rows::{Fields, id_named, present, text};
use super::ranked::{Ranked, ranks};
use super::source::{Source, Take};
use super::tables;
use crate::data::item::{ItemKind, Preference};
use crate::data::row::{Entry, Place, Row};
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// Endings of the index.
const ENDINGS: [&str; 2] = ["json", "parquet"];

pub struct ImageReward;

/// The forms of the set.
enum Form {
    /// id, prompt, generations, ranking
    Rankings,
    /// prompt_id, prompt, image_path, rank: an image per row
    Images,
    /// prompt, img_better, img_worse
    Pairs,
}

impl Form {
    fn of(row: &Fields) -> Option<Self> {
        let has = |names: &[&str]| names.iter().all(|name| present(row, name).is_some());
        if has(&["generations", "ranking"]) {
            Some(Self::Rankings)
        } else if has(&["prompt_id", "image_path", "rank"]) {
            Some(Self::Images)
        } else if has(&["img_better", "img_worse"]) {
            Some(Self::Pairs)
        } else {
            None
        }
    }
}

impl Source for ImageReward {
    fn format(&self) -> Format {
        Format::ImageReward
    }

    fn expects(&self) -> &'static str {
        "test.json (prompt, generations, ranking), or one metadata-*.parquet (prompt_id, image_path, rank; or img_better, \
         img_worse) with the unpacked images"
    }

    fn recognises(&self, files: &Files) -> Result<bool> {
        let row = files.with(&ENDINGS).into_iter().find_map(|file| tables::first(file));
        Ok(row.as_ref().and_then(Form::of).is_some())
    }

    fn index(&self, files: &Files) -> Result<PathBuf> {
        files.only(&ENDINGS).cloned()
    }

    fn is_one_file(&self) -> bool {
        true
    }

    fn read(&self, files: &Files, wanted: ItemKind, take: &mut Take) -> Result<()> {
        let index = self.index(files)?;
        match tables::first(&index).as_ref().and_then(Form::of) {
            Some(Form::Rankings) => each_ranking(&index, files, wanted, take),
            Some(Form::Images) => grouped(&index, files, wanted, take),
            Some(Form::Pairs) => tables::each(&index, &mut |place, fields| {
                take(place, fields.and_then(|fields| pair(&fields, files)).map(Entry::from))
            }),
            None => bail!("{}: expected {}", index.display(), self.expects()),
        }
    }
}

fn each_ranking(index: &std::path::Path, files: &Files, wanted: ItemKind, take: &mut Take) -> Result<()> {
    tables::each(index, &mut |place, fields| {
        let ranked = fields.and_then(|fields| {
            let names =
                present(&fields, "generations").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let image =
                |name: &Value| files.image(name.as_str().ok_or("field `generations`: expected paths of images")?);
            Ok(Ranked {
                id: id_named(&fields, "id")?,
                prompt: text(&fields, "prompt")?,
                images: names.iter().map(image).collect::<Result<_, String>>()?,
                ranks: ranks("ranking", present(&fields, "ranking").unwrap_or(&Value::Null))?,
            })
        });
        pass(place, ranked, wanted, take)
    })
}

fn pass(place: Place, ranked: Result<Ranked, String>, wanted: ItemKind, take: &mut Take) -> Result<()> {
    match ranked.and_then(|ranked| ranked.rows(place.row - 1, wanted)) {
        Ok(rows) => rows.into_iter().try_for_each(|row| take(place.clone(), Ok(Entry::from(row)))),
        Err(problem) => take(place, Err(problem)),
    }
}

/// Rankings from rows of single images, in the order in which the prompts first appear.
fn grouped(index: &std::path::Path, files: &Files, wanted: ItemKind, take: &mut Take) -> Result<()> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<(Place, Ranked)> = Vec::new();
    tables::each(index, &mut |place, fields| {
        let read = fields.and_then(|fields| {
            let id = id_named(&fields, "prompt_id")?.ok_or("the column `prompt_id` is empty")?;
            let rank = present(&fields, "rank").and_then(Value::as_f64).ok_or("column `rank`: expected a number")?;
            Ok((id, text(&fields, "prompt")?, files.image(&text(&fields, "image_path")?)?, rank))
        });
        let (id, prompt, image, rank) = match read {
            Ok(read) => read,
            Err(problem) => return take(place, Err(problem)),
        };
        let group = *places.entry(id.clone()).or_insert(groups.len());
        if group == groups.len() {
            let ranked = Ranked { id: Some(id), prompt: prompt.clone(), images: Vec::new(), ranks: Vec::new() };
            groups.push((place.clone(), ranked));
        }
        let (_, ranked) = &mut groups[group];
        if ranked.prompt != prompt {
            return take(place, Err("the prompt differs from that of the same prompt_id before".into()));
        }
        ranked.images.push(image);
        ranked.ranks.push(rank);
        Ok(())
    })?;
    groups.into_iter().try_for_each(|(place, ranked)| pass(place, Ok(ranked), wanted, take))
}

fn pair(fields: &Fields, files: &Files) -> Result<Row, String> {
    let images =
        ["img_better", "img_worse"].iter().map(|name| files.image(&text(fields, name)?)).collect::<Result<_, _>>()?;
    Ok(Row::new(text(fields, "prompt")?, images, Preference::Pair { tie: false }))
}
