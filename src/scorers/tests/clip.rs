//! Scorers on a CLIP against transformers and OpenCLIP (`tests/golden/make_clip_scorers.py`), and their refusals.

use super::{open, root};
use crate::scorers::{Named, ScorerSpec};
use image::RgbImage;
use pipelines::weights::{LoadOptions, write_safetensors};
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// float32 features in another order of sums; numbers are of the order of 10.
const TOLERANCE: f64 = 1e-4;

fn picture(row: &Value) -> RgbImage {
    if let Some(file) = row["file"].as_str() {
        return image::open(root("tests/golden/scorers").join(file)).unwrap().to_rgb8();
    }
    let side = |i: usize| row["textured"][i].as_u64().unwrap() as u32;
    RgbImage::from_fn(side(0), side(1), |x, y| {
        let (x, y) = (u64::from(x), u64::from(y));
        let noise = ((x * 2_654_435_761 + y * 40503 + x * y * 97) >> 7) % 61;
        image::Rgb([x * 3 + noise, y * 2 + noise * 2, x + y + noise].map(|value| (value % 256) as u8))
    })
}

fn rows(folder: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root("tests/golden/scorers").join(folder).join("scores.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Rates all pictures of a golden file in one call and compares every measure. `columns`: their names in the file.
fn check(name: &str, path: &Path, folder: &str, columns: &[&str]) {
    let scorer = ScorerSpec { name: name.into(), path: path.into() }.open(LoadOptions::cpu(), None).unwrap();
    let rows = rows(folder);
    assert_eq!(rows.len(), 24);
    let pictures: Vec<RgbImage> = rows.iter().map(picture).collect();
    let prompts: Vec<&str> = rows.iter().map(|row| row["prompt"].as_str().unwrap()).collect();
    let table = scorer.score(&pictures, 0, &prompts).unwrap();
    let mut worst = 0.0_f64;
    for (row, got) in rows.iter().zip(&table.0) {
        assert_eq!(got.len(), columns.len());
        for (column, got) in columns.iter().zip(got) {
            let expected = row[column].as_f64().unwrap();
            let off = (got - expected).abs() / expected.abs().max(1.0);
            assert!(off < TOLERANCE, "{name}.{column} of {row}: {got}");
            worst = worst.max(off);
        }
    }
    println!("{name}: differs by {worst:.1e} at most");
}

#[test]
fn clip_and_pickscore_equal_transformers() {
    let path = root("tests/golden/scorers/clip");
    check("clip", &path, "clip", &["clip_score"]);
    check("pickscore", &path, "clip", &["pickscore"]);
}

/// Refusal of a scorer by the files of another.
fn said_by(name: &str, folder: &str) -> String {
    let spec = ScorerSpec { name: name.into(), path: root("tests/golden/scorers").join(folder) };
    format!("{:#}", spec.open(LoadOptions::cpu(), None).err().unwrap())
}

/// A copy of a folder of tests/golden/scorers.
fn copy(folder: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root("tests/golden/scorers").join(folder)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

#[test]
fn hpsv2_equals_openclip_with_and_without_antialiasing() {
    check("hpsv2", &root("tests/golden/scorers/hpsv2"), "hpsv2", &["hpsv2"]);
    let dir = copy("hpsv2");
    let resize = dir.path().join("resize.json");
    std::fs::write(&resize, "{\"antialias\": false}").unwrap();
    check("hpsv2", dir.path(), "hpsv2", &["without_antialias"]);
    let spec = ScorerSpec { name: "hpsv2".into(), path: dir.path().into() };
    assert!(spec.files().unwrap().contains(&resize));
    std::fs::write(&resize, "{\"antialiasing\": false}").unwrap();
    let said = format!("{:#}", spec.open(LoadOptions::cpu(), None).err().unwrap());
    assert!(said.contains("resize.json: expected {\"antialias\": true} or false: unknown field"), "{said}");
}

#[test]
fn a_linear_aesthetic_head_on_a_clip_equals_transformers() {
    check("aesthetic", &root("tests/golden/scorers/aesthetic"), "aesthetic", &["rating"]);
}

#[test]
fn mps_equals_transformers_with_the_cross_attention_of_its_publication() {
    let measures = ["overall", "aesthetics", "semantic_alignment", "detail_quality"];
    check("mps", &root("tests/golden/scorers/mps"), "mps", &measures);
}

#[test]
fn imagereward_equals_the_blip_of_transformers_with_its_head() {
    check("imagereward", &root("tests/golden/scorers/imagereward"), "imagereward", &["reward"]);
}

#[test]
fn weights_that_are_not_imagereward_are_refused_with_what_they_look_like() {
    let dir = copy("imagereward");
    let weights = dir.path().join("model.safetensors");
    let spec = ScorerSpec { name: "imagereward".into(), path: dir.path().into() };
    let said = || format!("{:#}", spec.open(LoadOptions::cpu(), None).err().unwrap());
    for (folder, expected) in [
        ("clip", "this looks like a CLIP: take the scorer \"clip\", \"pickscore\" or \"hpsv2\""),
        ("hpsv2", "this looks like a CLIP: take the scorer \"clip\", \"pickscore\" or \"hpsv2\""),
        ("mps", "this looks like MPS: take the scorer \"mps\""),
    ] {
        std::fs::copy(root("tests/golden/scorers").join(folder).join("model.safetensors"), &weights).unwrap();
        let said = said();
        assert!(said.contains(expected) && said.contains("expected ImageReward's BLIP with its head"), "{said}");
    }
    let other = said_by("clip", "imagereward");
    assert!(other.contains("this looks like ImageReward, whose network is a BLIP: take the scorer"), "{other}");
    std::fs::remove_file(&weights).unwrap();
    std::fs::write(dir.path().join("ImageReward.pt"), "").unwrap();
    assert!(said().contains("ImageReward.pt is a pickle, which can run code and is never loaded"), "{}", said());

    let dir = copy("imagereward");
    let spec = ScorerSpec { name: "imagereward".into(), path: dir.path().into() };
    let said = || format!("{:#}", spec.open(LoadOptions::cpu(), None).err().unwrap());
    std::fs::remove_file(dir.path().join("vocab.txt")).unwrap();
    assert!(said().contains("copy vocab.txt of bert-base-uncased"), "{}", said());
    std::fs::write(dir.path().join("med_config.json"), "{\"hidden_act\": \"relu\"}").unwrap();
    assert!(said().contains("hidden_act") && said().contains("nothing else is implemented"), "{}", said());
    std::fs::remove_file(dir.path().join("med_config.json")).unwrap();
    assert!(said().contains("med_config.json"), "{}", said());
}

#[test]
fn scorers_with_prompts_refuse_an_empty_one_and_count_what_they_cut() {
    for name in ["clip", "pickscore", "hpsv2", "mps", "imagereward"] {
        let folder = if name == "pickscore" { "clip" } else { name };
        let scorer = open(name, &format!("tests/golden/scorers/{folder}"));
        for prompt in ["", " \n"] {
            let expected = "the prompt is empty, and this scorer compares pictures with prompts. Give every picture a prompt, or \
                            take a scorer that does not read prompts";
            assert_eq!(scorer.check(prompt).unwrap_err().to_string(), expected, "{name}");
            let said = scorer.score(&[RgbImage::new(4, 4)], 0, &[prompt]).unwrap_err();
            assert_eq!(said.to_string(), expected, "{name}");
        }
        assert_eq!(scorer.tokens_cut("cat").unwrap(), 0);
        let (long, named) = ("a cat ".repeat(60), Named { name: name.into(), scorer, measure: 0 });
        assert!(named.check([long.as_str()]).is_ok());
        let note = named.note(["cat", &long, "dog", &long]).unwrap().unwrap();
        let expected = format!(
            "note: 2 prompts are longer than the text encoder of the scorer \"{name}\" reads, and are cut for it"
        );
        assert_eq!((note, named.note(["cat"]).unwrap()), (expected, None));
    }
    assert!(open("aesthetic", "tests/golden/scorers/aesthetic").check("").is_ok());
}

#[test]
fn a_scorer_rates_no_pictures_as_no_rows() {
    for name in ["clip", "mps", "aesthetic", "hpsv2", "imagereward"] {
        assert!(open(name, &format!("tests/golden/scorers/{name}")).score(&[], 0, &[]).unwrap().0.is_empty(), "{name}");
    }
}

#[test]
fn heads_of_no_published_kind_or_for_another_clip_are_refused() {
    let dir = copy("aesthetic");
    let spec = ScorerSpec { name: "aesthetic".into(), path: dir.path().into() };
    let refusal = |tensors: &[(&str, &[i64])]| {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| (name.to_string(), Tensor::zeros(*shape, (Kind::Float, Device::Cpu))))
            .collect();
        write_safetensors(&dir.path().join("head.safetensors"), &tensors, &[]).unwrap();
        format!("{:#}", spec.open(LoadOptions::cpu(), None).err().unwrap())
    };
    let said = refusal(&[("layers.0.weight", &[1024, 768])]);
    assert!(said.contains("this head reads features of width 768, and those of the CLIP beside it have 24"), "{said}");
    let said = refusal(&[("fc.weight", &[1, 24])]);
    assert!(said.ends_with("expected a head with layers.0.weight (v2) or weight (v1), found fc.weight"), "{said}");
    let said = refusal(&[("weight", &[1, 24])]);
    assert!(said.contains("missing (1):\n    bias"), "{said}");
    std::fs::remove_file(dir.path().join("head.safetensors")).unwrap();
    let said = format!("{:#}", spec.open(LoadOptions::cpu(), None).err().unwrap());
    assert!(
        said.starts_with("the head of the predictor (head.safetensors, see docs/scorers.md): cannot open"),
        "{said}"
    );
}

#[test]
fn mps_without_its_cross_attention_and_a_clip_with_it_are_refused() {
    let missing = said_by("mps", "clip");
    assert!(missing.contains("there is no matrix cross_model.layers.0.0.fn.to_q.weight"), "{missing}");
    assert!(missing.ends_with("use the weights of MPS, converted as in docs/scorers.md"), "{missing}");
    let other = said_by("clip", "mps");
    assert!(other.contains("this looks like MPS: take the scorer \"mps\"; expected a CLIP"), "{other}");
}
