//! WebDataset: tar shards whose members KEY.0.jpg, KEY.1.jpg and KEY.json are one sample.

use super::files::Files;
use super::format::Format;
use super::house_rows::{self, Fields, kind_of, present};
use super::source::{Source, Take};
use crate::data::containers::tar::{self, Member};
use crate::data::image_ref::ImageRef;
use crate::data::item::ItemKind;
use crate::data::row::{Entry, Place};
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Endings of members that are images.
const IMAGES: [&str; 7] = ["jpg", "jpeg", "png", "webp", "bmp", "tiff", "gif"];
/// Largest size of a member that is read as text.
const LONGEST_TEXT: u64 = 1 << 20;

pub struct WebDataset;

/// Consecutive members of one key.
struct Sample {
    key: String,
    /// Field -> member.
    fields: BTreeMap<String, Member>,
    /// A field that came twice.
    twice: Option<String>,
}

impl Source for WebDataset {
    fn format(&self) -> Format {
        Format::WebDataset
    }

    fn expects(&self) -> &'static str {
        "tar shards of one split with KEY.0.jpg, KEY.1.jpg and KEY.json (prompt, label)"
    }

    fn recognises(&self, files: &Files) -> Result<bool> {
        Ok(!files.with(&["tar"]).is_empty())
    }

    fn read(&self, files: &Files, _: ItemKind, take: &mut Take) -> Result<()> {
        for path in files.shards(&["tar"])? {
            let file: Arc<Path> = path.as_path().into();
            let (mut sample, mut number) = (None::<Sample>, 0);
            let mut finish = |sample: Option<Sample>| match sample {
                None => Ok(()),
                Some(sample) => {
                    number += 1;
                    take(Place { file: file.clone(), row: number }, entry(&file, &sample))
                }
            };
            tar::members(path, &mut |member| {
                let (key, field) = split(&member.name);
                if sample.as_ref().is_none_or(|sample| sample.key != key) {
                    finish(sample.take())?;
                    sample = Some(Sample { key, fields: BTreeMap::new(), twice: None });
                }
                if let Some(sample) = &mut sample
                    && sample.fields.insert(field.clone(), member).is_some()
                {
                    sample.twice = Some(field);
                }
                Ok(())
            })?;
            finish(sample)?;
        }
        Ok(())
    }
}

/// Key and field: the path up to the first dot of the base name, and the rest in small letters.
fn split(name: &str) -> (String, String) {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[base..].find('.') {
        Some(dot) => (name[..base + dot].to_string(), name[base + dot + 1..].to_lowercase()),
        None => (name.to_string(), String::new()),
    }
}

fn entry(file: &Arc<Path>, sample: &Sample) -> Result<Entry, String> {
    let key = &sample.key;
    let refuse = |problem: String| format!("the sample {key}: {problem}");
    if let Some(field) = &sample.twice {
        return Err(refuse(format!("the member {key}.{field} is in the shard twice")));
    }
    let images: BTreeMap<&str, &Member> =
        sample.fields.iter().filter_map(|(field, member)| Some((place(field)?, member))).collect();
    let fields = described(file, sample).and_then(|fields| named(fields, key, &images)).map_err(refuse)?;
    let find = |place: &str| match images.get(place) {
        Some(Member { name, offset, length }) => {
            Ok(ImageRef::Member { file: file.clone(), name: name.as_str().into(), offset: *offset, length: *length })
        }
        None => Err(format!("there is no image {key}.{place}.jpg")),
    };
    house_rows::of_fields(&fields, &find).map(Entry::from).map_err(refuse)
}

/// `0` of the field `0.jpg`, "" of `jpg`; `None` for what is no image.
fn place(field: &str) -> Option<&str> {
    match field.rsplit_once('.') {
        Some((place, ending)) => IMAGES.contains(&ending).then_some(place),
        None => IMAGES.contains(&field).then_some(""),
    }
}

/// KEY.json, with the prompt of KEY.txt where it has none.
fn described(file: &Arc<Path>, sample: &Sample) -> Result<Fields, String> {
    let text = |field: &str| -> Result<Option<Vec<u8>>, String> {
        let Some(member) = sample.fields.get(field) else { return Ok(None) };
        if member.length > LONGEST_TEXT {
            return Err(format!("{} has {} bytes, expected a short text", member.name, member.length));
        }
        tar::member(file, member.offset, member.length).map(Some).map_err(|e| format!("{}: {e}", member.name))
    };
    let mut fields = match text("json")? {
        None => Fields::new(),
        Some(json) => match serde_json::from_slice(&json) {
            Ok(Value::Object(fields)) => fields,
            Ok(other) => return Err(format!("expected a JSON object in .json, found {}", kind_of(&other))),
            Err(e) => return Err(format!("the .json is not valid JSON: {e}")),
        },
    };
    if let (None, Some(caption)) = (present(&fields, "prompt"), present(&fields, "caption").cloned()) {
        fields.insert("prompt".into(), caption);
    }
    if present(&fields, "prompt").is_none()
        && let Some(caption) = text("txt")?
    {
        let caption = String::from_utf8(caption).map_err(|_| "the .txt is not valid UTF-8".to_string())?;
        fields.insert("prompt".into(), caption.trim().into());
    }
    Ok(fields)
}

/// Our own names: two numbered images are a pair unless the sample has `ranks` or `scores` of all, one image is labelled.
fn named(mut fields: Fields, key: &str, images: &BTreeMap<&str, &Member>) -> Result<Fields, String> {
    // The key tells samples apart, whatever their json says.
    fields.insert("id".into(), key.into());
    if images.contains_key("") || images.len() == 1 {
        let place = images.keys().next().copied().unwrap_or_default();
        fields.insert("image".into(), place.into());
        return Ok(fields);
    }
    if images.len() != 2 || present(&fields, "ranks").is_some() {
        let places: Vec<Value> = (0..images.len()).map(|place| place.to_string().into()).collect();
        fields.insert("images".into(), places.into());
        return Ok(fields);
    }
    let (winner, loser, tie) = preferred(&mut fields)?;
    fields.insert("winner".into(), winner.into());
    fields.insert("loser".into(), loser.into());
    if tie {
        fields.insert("label".into(), "tie".into());
    }
    Ok(fields)
}

/// Winner and loser by `label`, the number of the preferred image or "tie"; by `label_0` as in Pick-a-Pic; the first one
/// without either.
fn preferred(fields: &mut Fields) -> Result<(&'static str, &'static str, bool), String> {
    let (label, label_0) = (fields.remove("label"), fields.remove("label_0"));
    fields.remove("label_1");
    let number = |value: &Value| value.as_f64();
    match (label, label_0) {
        (Some(Value::Null) | None, Some(Value::Null) | None) => Ok(("0", "1", false)),
        (Some(Value::String(text)), _) if text == "tie" => Ok(("0", "1", true)),
        (Some(label), _) if number(&label) == Some(0.0) => Ok(("0", "1", false)),
        (Some(label), _) if number(&label) == Some(1.0) => Ok(("1", "0", false)),
        (Some(label), _) if number(&label) == Some(0.5) => Ok(("0", "1", true)),
        (None, Some(label)) if number(&label) == Some(1.0) => Ok(("0", "1", false)),
        (None, Some(label)) if number(&label) == Some(0.0) => Ok(("1", "0", false)),
        (None, Some(label)) if number(&label) == Some(0.5) => Ok(("0", "1", true)),
        (label, label_0) => Err(format!(
            "expected `label` = 0 or 1 (the preferred image) or \"tie\", or `label_0` = 1, 0 or 0.5, found {}",
            label.or(label_0).unwrap_or_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_dot_of_the_base_name() {
        for (name, key, field) in [
            ("a/b.c/001.0.JPG", "a/b.c/001", "0.jpg"),
            ("001.json", "001", "json"),
            ("./001.1.png", "./001", "1.png"),
            ("readme", "readme", ""),
        ] {
            assert_eq!(split(name), (key.to_string(), field.to_string()));
        }
        assert_eq!([place("0.jpg"), place("webp"), place("json")], [Some("0"), Some(""), None]);
    }
}
