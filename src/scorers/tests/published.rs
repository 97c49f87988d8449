//! Scorers against the numbers of their publications and of Python.

use super::{open, root};
use crate::scorers::ScorerSpec;
use image::RgbImage;
use pipelines::weights::LoadOptions;

#[test]
fn background_and_nearest_drawing_give_the_scores_that_python_wrote_into_the_pairs() {
    let dir = root("assets/testbed");
    let (background, nearest) = (open("background", ""), open("nearest_drawing", "assets/testbed"));
    let text = std::fs::read_to_string(dir.join("pairs-drawings.jsonl")).unwrap();
    for row in text.lines().step_by(20).map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        let picture = |side: &str| image::open(dir.join(row[side].as_str().unwrap())).unwrap().to_rgb8();
        let (pictures, prompt) = ([picture("winner"), picture("loser")], row["prompt"].as_str().unwrap());
        let darkness = background.score(&pictures, 0, &[prompt; 2]).unwrap().column(0);
        let found = nearest.score(&pictures, 0, &[prompt; 2]).unwrap();
        assert_eq!(found.column(2), [1.0, 1.0], "{row}");
        for i in 0..2 {
            let expected = |score: &str| row["scores"][score][i].as_f64().unwrap();
            assert!((darkness[i] - expected("darkness")).abs() < 1e-4, "{row}: {darkness:?}");
            assert!((found.column(0)[i] - expected("flat")).abs() < 2e-4, "{row}: {found:?}");
            assert!((found.column(3)[i] + expected("match")).abs() < 1e-4, "{row}: {found:?}");
        }
    }
}

/// Rows of a file in tests/golden/scorers.
fn golden(file: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(root("tests/golden/scorers").join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn golden_picture(file: &serde_json::Value) -> RgbImage {
    image::open(root("tests/golden/scorers").join(file.as_str().unwrap())).unwrap().to_rgb8()
}

#[test]
fn nima_gives_the_votes_of_the_original_network() {
    let scorer = open("nima", "assets/scorers/nima");
    let formula = |name: &str| {
        RgbImage::from_fn(224, 224, |x, y| match name {
            "white" => image::Rgb([255; 3]),
            "grey128" => image::Rgb([128; 3]),
            "black" => image::Rgb([0; 3]),
            "ramp" => image::Rgb([x as u8, y as u8, ((x + y) / 2) as u8]),
            _ => image::Rgb([255 * ((x / 8 + y / 8) % 2) as u8; 3]),
        })
    };
    let rows = golden("nima.jsonl");
    assert_eq!(rows.len(), 23);
    for row in rows {
        let picture = row["picture"].as_str().map_or_else(|| golden_picture(&row["file"]), formula);
        let got = scorer.score(&[picture], 0, &[""]).unwrap();
        for (column, key) in [(0, "mean"), (1, "std")] {
            let (got, expected) = (got.column(column)[0], row[key].as_f64().unwrap());
            assert!((got - expected).abs() < 1e-3, "{row}: {got}");
        }
    }
}

#[test]
fn brisque_gives_the_numbers_of_the_python_package() {
    let scorer = open("brisque", "assets/scorers/brisque");
    let textured = |size: &serde_json::Value| {
        let side = |i: usize| size[i].as_u64().unwrap() as u32;
        RgbImage::from_fn(side(0), side(1), |x, y| {
            let (x, y) = (u64::from(x), u64::from(y));
            let noise = ((x * 2_654_435_761 + y * 40503 + x * y * 97) >> 7) % 61;
            image::Rgb([x * 3 + noise, y * 2 + noise * 2, x + y + noise].map(|value| (value % 256) as u8))
        })
    };
    let rows = golden("brisque.jsonl");
    assert_eq!(rows.len(), 21);
    for row in rows {
        let picture = match row["file"].is_string() {
            true => {
                let (cell, texture) = (golden_picture(&row["file"]), textured(&serde_json::json!([64, 64])));
                let mixed = |x: u32, y: u32, c: usize| {
                    ((u32::from(cell.get_pixel(x, y)[c]) * 3 + u32::from(texture.get_pixel(x, y)[c])) / 4) as u8
                };
                RgbImage::from_fn(64, 64, |x, y| image::Rgb([0, 1, 2].map(|c| mixed(x, y, c))))
            }
            false => textured(&row["textured"]),
        };
        let (got, expected) =
            (scorer.score(&[picture], 0, &[""]).unwrap().column(0)[0], row["score"].as_f64().unwrap());
        assert!((got - expected).abs() < 1e-3, "{row}: {got}");
    }
}

#[test]
fn brisque_refuses_a_picture_without_variation_and_a_model_of_another_kind() {
    let scorer = open("brisque", "assets/scorers/brisque");
    let plain = RgbImage::from_pixel(64, 64, image::Rgb([200, 30, 30]));
    let said = format!("{:#}", scorer.score(&[plain], 0, &["red apple"]).unwrap_err());
    assert_eq!(
        said,
        "the picture of the prompt \"red apple\": it has one colour everywhere, and BRISQUE rates variation"
    );
    let small = format!("{:#}", scorer.score(&[RgbImage::new(3, 8)], 0, &["x"]).unwrap_err());
    assert!(small.ends_with("it has 3 x 8 pixels; expected at least 4 x 4"), "{small}");
    let dir = tempfile::tempdir().unwrap();
    let copy = |name: &str| std::fs::copy(root("assets/scorers/brisque").join(name), dir.path().join(name)).unwrap();
    copy("normalize.json");
    std::fs::write(dir.path().join("svm.txt"), "svm_type c_svc\nkernel_type rbf\nSV\n").unwrap();
    let spec = ScorerSpec { name: "brisque".into(), path: dir.path().into() };
    let said = format!("{:#}", spec.open(LoadOptions::cpu(), None).err().unwrap());
    assert!(said.ends_with("svm.txt: expected an epsilon_svr with an rbf kernel, found c_svc with rbf"), "{said}");
}
