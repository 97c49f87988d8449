//! compare.html: the pictures of all sides in one self-contained page.

use super::gallery::Gallery;
use crate::generate::run::Outcome;
use crate::painting::inline_png;
use anyhow::{Context, Result};
use minijinja::{Environment, UndefinedBehavior, context};
use serde_json::Value;
use std::path::Path;

/// Bytes of full-size pictures in the page; above it pictures are reduced to keep a browser fast.
const ROOM: u64 = 64 << 20;
/// Larger side of a reduced picture, in pixels.
const SMALL: u32 = 256;
/// Keys that are left out of the table of differences, because other keys contain the same in fewer words.
const SAID_OTHERWISE: [&str; 5] = ["weights", "scheduler_config", "empty_side", "program", "batch"];

/// The page as HTML. Texts are escaped, as the template's name is `*.html`.
///
/// # Errors
/// A missing picture.
pub fn html(gallery: &Gallery, out: &Path, outcomes: &[Outcome]) -> Result<String> {
    let files = || gallery.rows.iter().flat_map(|row| &row.files);
    let bytes: u64 = files().filter_map(|file| Some(out.join(file).metadata().ok()?.len())).sum();
    let largest = if bytes > ROOM { SMALL } else { u32::MAX };
    let mut rows = Vec::new();
    for row in &gallery.rows {
        let pictures = row.files.iter().zip(&gallery.names).map(|(file, name)| {
            let address = inline_png(&out.join(file), largest)?;
            Ok(context! { address, file => file.as_str(), name => name.as_str() })
        });
        let pictures = pictures.collect::<Result<Vec<_>>>()?;
        rows.push(context! { prompt => row.prompt.as_str(), seed => row.seed, pictures });
    }
    let firsts: Vec<&Value> = outcomes.iter().filter_map(|outcome| outcome.records.first()).collect();
    let differences: Vec<_> = differences(&firsts).into_iter().map(|(key, values)| context! { key, values }).collect();
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template("compare.html", include_str!("compare.html")).context("the template of the page")?;
    let template = environment.get_template("compare.html");
    template
        .and_then(|template| {
            template.render(context! {
                names => gallery.names.clone(),
                differences,
                rows,
                width => gallery.width.min(largest),
                height => gallery.height.min(largest),
                smaller => largest == SMALL,
            })
        })
        .context("cannot fill the template of the page")
}

/// The keys in which the sides' records differ, with the value of each side.
fn differences(records: &[&Value]) -> Vec<(String, Vec<String>)> {
    let keys = records.first().and_then(|record| record.as_object()).into_iter().flat_map(|record| record.keys());
    let keys = keys.filter(|key| !SAID_OTHERWISE.contains(&key.as_str()));
    let differs = |key: &&String| records.iter().any(|record| record[key.as_str()] != records[0][key.as_str()]);
    keys.filter(differs)
        .map(|key| (key.clone(), records.iter().map(|record| in_words(&record[key])).collect()))
        .collect()
}

fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_string(),
        Value::String(text) => text.clone(),
        Value::Array(loras) if loras.is_empty() => "-".to_string(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(", "),
        Value::Object(lora) if lora.contains_key("scale") => {
            format!("{}:{}", lora["file"].as_str().unwrap_or_default(), lora["scale"])
        }
        Value::Object(side) => {
            let said = side.iter().filter(|(key, value)| *key != "weights" && !value.is_null());
            said.map(|(key, value)| format!("{key} {}", in_words(value))).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sides_are_told_apart_by_the_options_in_which_they_differ() {
        let lora = json!([{"file": "a.safetensors", "scale": 0.5, "sha256": "ff"}]);
        let negative = json!({"unet": "npo", "loras": [], "merge": [1.0, 1.0], "weights": {"unet/x": "ff"}});
        let a = json!({"steps": 20, "eta": 0.0, "unet": null, "loras": [], "negative": null, "weights": {"x": "a"}});
        let b =
            json!({"steps": 50, "eta": 0.0, "unet": "u", "loras": lora, "negative": negative, "weights": {"x": "b"}});
        let found = differences(&[&a, &b]);
        let expected = [
            ("steps", ["20", "50"]),
            ("unet", ["-", "u"]),
            ("loras", ["-", "a.safetensors:0.5"]),
            ("negative", ["-", "unet npo; loras -; merge 1.0, 1.0"]),
        ];
        assert_eq!(found, expected.map(|(key, values)| (key.to_string(), values.map(String::from).to_vec())));
        assert_eq!(differences(&[&a, &a]), []);
    }
}
