//! The judges: the trained one against the network that Python trained, the nearest one on drawings it knows.

use crate::support::root;
use diffpref::scorers::{Drawings, Judge, Nearest, TrainedJudge};
use image::{Rgb, RgbImage};
use pipelines::weights::TensorFile;
use std::path::Path;
use tch::{Kind, Tensor};

#[test]
fn the_trained_judge_is_the_network_that_python_trained() {
    let golden = TensorFile::open(&root().join("tests/golden/judge.safetensors")).unwrap();
    let judge = TrainedJudge::open(&root().join("assets/judge")).unwrap();
    let bytes = golden.tensor("images").unwrap(); // [B, 64, 64, 3]
    let images = bytes.permute([0, 3, 1, 2]).to_kind(Kind::Float) / 127.5 - 1.0;
    let (style, content) = judge.logits(&images);
    // float32 sums over 64 x 64 positions in another order: logits are about 10, so 1e-3 is 1e-4 of them.
    for (name, got) in [("style", &style), ("content", &content)] {
        let off = (got - golden.tensor(name).unwrap()).abs().max().double_value(&[]);
        assert!(off < 1e-3, "{name} is off by {off}");
    }
    let pictures: Vec<RgbImage> = (0..bytes.size()[0])
        .map(|i| RgbImage::from_raw(64, 64, Vec::<u8>::try_from(bytes.get(i).contiguous().view(-1)).unwrap()).unwrap())
        .collect();
    let opinions = judge.judge(&pictures).unwrap();
    let flat = style.softmax(1, Kind::Double).select(1, 0);
    for (index, opinion) in opinions.iter().enumerate() {
        assert!((opinion.flat - flat.double_value(&[index as i64])).abs() < 1e-4, "{opinion:?}");
        assert_eq!(opinion.name, judge.names()[content.get(index as i64).argmax(0, false).int64_value(&[]) as usize]);
    }
    // Two flat drawings, then two shaded ones: each recognised as what it is.
    let styles: Vec<bool> = opinions.iter().map(|opinion| opinion.flat > 0.5).collect();
    assert_eq!(styles, [true, true, false, false], "{opinions:?}");
}

#[test]
fn the_trained_judge_states_how_good_it_is() {
    let accuracy = TrainedJudge::open(&root().join("assets/judge")).unwrap().accuracy().unwrap();
    assert!(accuracy.values().any(|share| *share > 0.5), "{accuracy:?}");
}

#[test]
fn a_folder_that_is_no_judge_is_refused() {
    let refusal = |dir: &Path| format!("{:#}", TrainedJudge::open(dir).err().unwrap());
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
fn drawings(dir: &Path) -> Drawings {
    for (style, light) in [("flat", 0), ("shaded", 60)] {
        std::fs::create_dir_all(dir.join(style)).unwrap();
        for (slug, colour) in [("fox", [180, 90, light]), ("crab", [90, light, 180])] {
            RgbImage::from_fn(8, 8, |x, _| Rgb([colour[0], colour[1], colour[2]].map(|c: u8| c + x as u8)))
                .save(dir.join(style).join(format!("{slug}.png")))
                .unwrap();
        }
    }
    Drawings::read(dir, &["fox", "crab"].map(|slug| (format!("a {slug}"), slug.to_string()))).unwrap()
}

#[test]
fn the_nearest_drawing_gives_style_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let judge = Nearest::pixels(drawings(dir.path())).unwrap();
    let picture = |colour: [u8; 3]| RgbImage::from_pixel(8, 8, Rgb(colour));
    // The last one has another size: it is resized.
    let pictures = [picture([170, 100, 10]), picture([100, 70, 170]), RgbImage::from_pixel(16, 16, Rgb([180, 90, 60]))];
    let opinions = judge.judge(&pictures).unwrap();
    let opinions: Vec<(f64, &str)> = opinions.iter().map(|opinion| (opinion.flat, opinion.name.as_str())).collect();
    assert_eq!(opinions, [(1.0, "a fox"), (0.0, "a crab"), (0.0, "a fox")]);
    assert_eq!(judge.accuracy().unwrap()["content_on_mirrored_drawings"], 1.0);
}

#[test]
fn a_missing_drawing_and_one_of_another_size_are_named() {
    let dir = tempfile::tempdir().unwrap();
    drawings(dir.path());
    let refusal = |slug: &str| {
        format!(
            "{:#}",
            Drawings::read(dir.path(), &[("a fox".into(), "fox".into()), ("other".into(), slug.into())]).err().unwrap()
        )
    };
    assert!(refusal("owl").contains("flat/owl.png"));
    RgbImage::new(8, 9).save(dir.path().join("flat/owl.png")).unwrap();
    assert!(refusal("owl").contains("8 x 9 pixels, expected 8 x 8"));
}
