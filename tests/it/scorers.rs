//! Scorers: the judge against the network that Python trained, the nearest drawing on known drawings, and their list.

use crate::support::{diffpref, root};
use diffpref::scorers::{Judge, REGISTRY, Scorer, ScorerSpec};
use image::{Rgb, RgbImage};
use pipelines::weights::{LoadOptions, TensorFile};
use serde_json::Value;
use std::path::Path;
use tch::{Kind, Tensor};

fn open(name: &str, path: &Path) -> anyhow::Result<Box<dyn Scorer>> {
    ScorerSpec { name: name.into(), path: path.into() }.open(LoadOptions::cpu(), None)
}

#[test]
fn the_judge_is_the_network_that_python_trained() {
    let golden = TensorFile::open(&root().join("tests/golden/judge.safetensors")).unwrap();
    let judge = Judge::open(&root().join("assets/judge")).unwrap();
    let images = golden.tensor("images").unwrap(); // [B, 64, 64, 3] uint8
    let (style, content) = judge.logits(&(images.permute([0, 3, 1, 2]).to_kind(Kind::Float) / 127.5 - 1.0));
    // float32 sums over 64 x 64 positions in another order: logits are about 10, so 1e-3 is 1e-4 of them.
    for (name, got) in [("style", &style), ("content", &content)] {
        let off = (got - golden.tensor(name).unwrap()).abs().max().double_value(&[]);
        assert!(off < 1e-3, "{name} is off by {off}");
    }
}

#[test]
fn style_and_content_state_the_accuracy_of_their_head() {
    for name in ["style", "content"] {
        let accuracy = open(name, &root().join("assets/judge")).unwrap().accuracy().unwrap();
        assert!(accuracy.values().any(|share| *share > 0.5), "{accuracy:?}");
        assert!(accuracy.keys().all(|kind| kind.starts_with(name)), "{accuracy:?}");
    }
}

#[test]
fn a_folder_that_is_no_judge_is_refused() {
    let refusal = |dir: &Path| format!("{:#}", Judge::open(dir).err().unwrap());
    let dir = tempfile::tempdir().unwrap();
    assert!(refusal(dir.path()).contains("config.json"));
    let config = r#"{"resolution": 8, "channels": [4], "groups": 2, "norm_eps": 1e-5, "styles": ["flat", "shaded"], "names": ["fox"]}"#;
    std::fs::write(dir.path().join("config.json"), config.replace("\"flat\"", "\"oil\"")).unwrap();
    assert!(refusal(dir.path()).contains("expected \"flat\""));
    std::fs::write(dir.path().join("config.json"), config.replace("\"groups\": 2", "\"groups\": 3")).unwrap();
    assert!(refusal(dir.path()).contains("groups 3"));
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let tensors = [("style.weight".to_string(), Tensor::zeros([2, 9], (Kind::Float, tch::Device::Cpu)))];
    pipelines::weights::write_safetensors(&dir.path().join("model.safetensors"), &tensors, &[]).unwrap();
    let error = refusal(dir.path());
    assert!(error.contains("style.weight: expected [2, 8], found [2, 9]") && error.contains("content.bias"), "{error}");
}

/// Four drawings of 8 x 8: a fox and a crab, flat and shaded.
fn drawings(dir: &Path) {
    let names = "{\"prompt\": \"a fox\", \"slug\": \"fox\"}\n\n{\"prompt\": \"a crab\", \"slug\": \"crab\"}\n";
    std::fs::write(dir.join("names.jsonl"), names).unwrap();
    for (style, light) in [("flat", 0), ("shaded", 60)] {
        let folder = dir.join("drawings").join(style);
        std::fs::create_dir_all(&folder).unwrap();
        for (slug, colour) in [("fox", [180, 90, light]), ("crab", [90, light, 180])] {
            RgbImage::from_fn(8, 8, |x, _| Rgb([colour[0], colour[1], colour[2]].map(|c: u8| c + x as u8)))
                .save(folder.join(format!("{slug}.png")))
                .unwrap();
        }
    }
}

#[test]
fn the_nearest_drawing_gives_style_and_name() {
    let dir = tempfile::tempdir().unwrap();
    drawings(dir.path());
    let nearest = open("nearest_pixels", dir.path()).unwrap();
    let picture = |colour: [u8; 3]| RgbImage::from_pixel(8, 8, Rgb(colour));
    // The last one has another size: it is resized.
    let pictures = [picture([170, 100, 10]), picture([100, 70, 170]), RgbImage::from_pixel(16, 16, Rgb([180, 90, 60]))];
    let numbers = nearest.score(&pictures, 0, &["a fox", "a fox", "a fox"]).unwrap();
    assert_eq!(numbers.column(0), [1.0, 0.0, 0.0]);
    assert_eq!(numbers.column(1), [1.0, 0.0, 1.0]);
    assert_eq!(nearest.accuracy().unwrap()["content_on_mirrored_drawings"], 1.0);
    let said = nearest.check("a foxx").unwrap_err().to_string();
    assert_eq!(said, "there is no drawing of the prompt \"a foxx\", did you mean \"a fox\"?");
}

#[test]
fn missing_drawings_names_and_drawings_of_another_size_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = || format!("{:#}", open("nearest_pixels", dir.path()).err().unwrap());
    assert!(refusal().contains("names.jsonl; drawings are a folder with names.jsonl and"), "{}", refusal());
    drawings(dir.path());
    let owl = dir.path().join("drawings/flat/owl.png");
    let names = |rows: &str| std::fs::write(dir.path().join("names.jsonl"), rows).unwrap();
    names("{\"prompt\": \"a fox\", \"slug\": \"fox\"}\n{\"prompt\": \"an owl\", \"slug\": \"owl\"}\n");
    assert!(refusal().contains("flat/owl.png"), "{}", refusal());
    RgbImage::new(8, 9).save(&owl).unwrap();
    assert!(refusal().contains("8 x 9 pixels, expected 8 x 8"), "{}", refusal());
    std::fs::write(&owl, "no picture").unwrap();
    assert!(refusal().contains("owl.png is not a picture"), "{}", refusal());
    names("{\"prompt\": \"a fox\"}\n");
    assert!(refusal().contains("names.jsonl row 1: expected {\"prompt\": .., \"slug\": ..}"), "{}", refusal());
    names("\n");
    assert!(refusal().contains("names.jsonl holds no name"), "{}", refusal());
}

#[test]
fn the_command_lists_every_scorer_with_its_measures() {
    let stdout = |options: &[&str]| {
        let assert = diffpref().arg("scorers").args(options).assert().success();
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    };
    let text = stdout(&[]);
    let json: Value = serde_json::from_str(&stdout(&["--json"])).unwrap();
    let listed: Vec<&str> = json.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(listed, REGISTRY.iter().map(|scorer| scorer.name).collect::<Vec<_>>());
    for (scorer, json) in REGISTRY.iter().zip(json.as_array().unwrap()) {
        assert!(text.contains(&format!("{}: {}\n", scorer.name, scorer.about)), "{text}");
        assert!(!scorer.licence.is_empty() && !scorer.citation.is_empty());
        // Other programs and trained heads describe theirs when they are opened.
        let described = ["command", "http", "trained"].contains(&scorer.name);
        assert_eq!(scorer.measures.is_empty(), described, "{}", scorer.name);
        for measure in scorer.measures {
            assert!(text.contains(&format!("\n  {} ", measure.name)), "{text}");
        }
        assert_eq!(json["path"].as_str(), scorer.files.as_ref().map(|files| files.form));
    }
    assert_eq!(json[1]["measures"][0]["range"]["real"]["max"], 10.0);
    assert_eq!(json[1]["measures"][1]["range"], "decision");
    assert!(text.contains("-10 to 10 (log-odds), higher is better, depends on the prompt"), "{text}");
}
