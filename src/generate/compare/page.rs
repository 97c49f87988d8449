//! compare.html: the pictures of all sides in one self-contained page.

use super::gallery::Gallery;
use crate::generate::record::Record;
use crate::generate::run::Outcome;
use crate::painting::{LoraRecord, NegativeRecord, inline_png};
use anyhow::{Context, Result};
use minijinja::{Environment, UndefinedBehavior, context};
use std::path::{Path, PathBuf};

/// Bytes of full-size pictures in the page; above it pictures are reduced to keep a browser fast.
const ROOM: u64 = 64 << 20;
/// Larger side of a reduced picture, in pixels.
const SMALL: u32 = 256;

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
    let firsts: Vec<&Record> = outcomes.iter().filter_map(|outcome| outcome.records.first()).collect();
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
fn differences(records: &[&Record]) -> Vec<(&'static str, Vec<String>)> {
    let sides: Vec<_> = records.iter().map(|record| in_words(record)).collect();
    let keys = sides.first().into_iter().flatten().map(|(key, _)| *key).enumerate();
    let row = |(i, key): (usize, _)| (key, sides.iter().map(|side| side[i].1.clone()).collect());
    keys.map(row).filter(|(_, values): &(_, Vec<String>)| values.iter().any(|value| *value != values[0])).collect()
}

/// Keys and values of a record, without keys whose values follow from the model's files.
fn in_words(record: &Record) -> Vec<(&'static str, String)> {
    let sampling = &record.sampling;
    vec![
        ("negative_prompt", or_dash(record.negative_prompt.clone())),
        ("seed", record.seed.to_string()),
        ("model", record.model.display().to_string()),
        ("unet", or_dash(path(&record.unet))),
        ("vae", or_dash(path(&record.vae))),
        ("loras", or_dash(loras(&record.loras))),
        ("negative", or_dash(record.negative.as_ref().map(negative))),
        ("clip_skip", record.clip_skip.to_string()),
        ("width", record.width.to_string()),
        ("height", record.height.to_string()),
        ("dtype", or_dash(record.dtype.map(|dtype| dtype.name().to_string()))),
        ("device", record.device.clone()),
        ("vae_tiling", or_dash(record.vae_tiling.map(|tiled| tiled.to_string()))),
        ("guidance_scale", or_dash(sampling.guidance_scale.map(|scale| scale.to_string()))),
        ("guidance_rescale", sampling.guidance_rescale.to_string()),
        ("cfg_plus_plus", or_dash(sampling.cfg_plus_plus.map(|lambda| lambda.to_string()))),
        ("scheduler", sampling.scheduler.clone()),
        ("eta", sampling.eta.to_string()),
        ("karras", sampling.karras.to_string()),
        ("prediction_type", or_dash(sampling.prediction_type.map(|kind| kind.name().to_string()))),
        ("zero_terminal_snr", sampling.zero_terminal_snr.to_string()),
        ("steps", sampling.steps.to_string()),
    ]
}

fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_string())
}

fn path(path: &Option<PathBuf>) -> Option<String> {
    path.as_ref().map(|path| path.display().to_string())
}

fn loras(loras: &[LoraRecord]) -> Option<String> {
    let one = |lora: &LoraRecord| format!("{}:{}", lora.file.display(), lora.scale);
    (!loras.is_empty()).then(|| loras.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn negative(side: &NegativeRecord) -> String {
    let parts = [
        path(&side.unet).map(|unet| format!("unet {unet}")),
        loras(&side.loras).map(|loras| format!("loras {loras}")),
        side.merge.map(|[alpha, beta]| format!("merge {alpha}, {beta}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_by_the_options_in_which_they_differ() {
        let lora = LoraRecord { file: "a.safetensors".into(), scale: 0.5, sha256: "ff".into() };
        let negative = NegativeRecord {
            unet: Some("npo".into()),
            loras: vec![],
            merge: Some([1.0, 1.5]),
            weights: [("unet/x".to_string(), "ff".to_string())].into(),
        };
        let mut a = Record::default();
        a.sampling.steps = 20;
        let mut b = Record { unet: Some("u".into()), loras: vec![lora], negative: Some(negative), ..a.clone() };
        b.sampling.steps = 50;
        let expected = [
            ("unet", ["-", "u"]),
            ("loras", ["-", "a.safetensors:0.5"]),
            ("negative", ["-", "unet npo; merge 1, 1.5"]),
            ("steps", ["20", "50"]),
        ];
        assert_eq!(differences(&[&a, &b]), expected.map(|(key, values)| (key, values.map(String::from).to_vec())));
        assert_eq!(differences(&[&a, &a]), []);
    }
}
