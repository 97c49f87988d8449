//! `diffpref data`: inspect, validate, convert, cache, on real files.

use crate::support::{World, diffpref, golden, json, model, names, succeeds};
use serde_json::Value;
use std::path::Path;

fn data(action: &str, path: &Path, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = diffpref();
    command.args(["data", action]).arg(path).args(arguments);
    command
}

fn printed(mut command: assert_cmd::Command) -> Value {
    let assert = command.arg("--json").assert().success();
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}

#[test]
fn a_set_is_inspected_with_its_users_generators_sizes_and_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("sheet.html");
    let said = printed(data("inspect", &golden("readers/pickapic"), &["--page", page.to_str().unwrap()]));
    assert_eq!((&said["format"], &said["kind"]), (&"pickapic".into(), &"pairs".into()));
    assert_eq!(
        (said["rows"].as_u64(), said["unlabelled"].as_u64(), said["ties"].as_u64()),
        (Some(6), Some(1), Some(1))
    );
    assert_eq!((said["prompts"].as_u64(), said["images"].as_u64()), (Some(4), Some(10)));
    assert_eq!(said["users"], serde_json::json!([["8", 3], ["7", 2]]));
    let sd = serde_json::json!({"name": "sd", "images": 5, "wins": 2, "losses": 2, "ties": 1});
    assert_eq!(said["generators"][0], sd);
    assert_eq!(said["contents"]["sizes"], serde_json::json!([[20, 16, 10]]));
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(
        html.matches("<img src=\"data:image/png;base64,").count() == 10 && html.contains("winner, sd"),
        "{}",
        html.len()
    );
    assert!(!html.contains("http://") && !html.contains("https://"));
}

#[test]
fn pairs_that_say_nothing_are_found_by_the_pixels_and_fail_a_validation() {
    let world = World::new(3);
    let rows = [
        r#"{"id": "a", "prompt": "x", "winner": "w0.png", "loser": "l0.png", "scores": {"hps": [0.1, 0.2]}}"#,
        r#"{"id": "b", "prompt": "x", "winner": "copy.png", "loser": "l0.png"}"#,
        r#"{"id": "c", "prompt": "x", "winner": "l0.png", "loser": "w0.png"}"#,
        r#"{"id": "d", "prompt": "x", "winner": "w1.png", "loser": "w1.bmp"}"#,
        r#"{"id": "e", "prompt": "x", "winner": "gone.png", "loser": "w1.png"}"#,
        r#"{"id": "a", "prompt": "y", "winner": "w1.png", "loser": "w2.png"}"#,
        r#"{"id": "f", "prompt": 1}"#,
    ];
    std::fs::write(world.pairs(), rows[..5].join("\n")).unwrap();
    std::fs::copy(world.path("data/w0.png"), world.path("data/copy.png")).unwrap();
    image::open(world.path("data/w1.png")).unwrap().save(world.path("data/w1.bmp")).unwrap();
    let said = printed(data("inspect", &world.pairs(), &[]));
    let findings =
        serde_json::json!({"same_image": 1, "repeated": 1, "contradicting": 3, "scored_against": {"hps": 1}});
    assert_eq!(said["contents"]["findings"], findings);
    assert_eq!(said["findings"]["repeated"], 0, "by their places no pair is repeated");
    assert_eq!(said["contents"]["duplicates"], 1);
    assert_eq!(said["contents"]["unreadable"][0][1], "the file is missing");

    std::fs::write(world.pairs(), rows.join("\n")).unwrap();
    let out = world.path("problems.json");
    let error = world.refused(&mut data("validate", &world.pairs(), &["--out", out.to_str().unwrap()]), 1);
    assert!(error.contains("DIR/data/pairs.jsonl: 8 problems"), "{error}");
    let problems = json(&out);
    let expected = serde_json::json!({
        "id not unique": 1, "image unreadable": 1, "pair contradicted": 3, "pair repeated": 1, "row refused": 1,
        "winner and loser have the same pixels": 1,
    });
    assert_eq!(problems["counts"], expected);
    assert_eq!(problems["rows"], 7);
    assert!(problems["problems"][1]["place"].as_str().unwrap().ends_with("pairs.jsonl:7"), "{problems}");
    let error = world.refused(&mut data("inspect", &world.pairs(), &[]), 1);
    assert!(error.contains("DIR/data/pairs.jsonl:7: missing field `winner`"), "{error}");
}

#[test]
fn a_sound_set_passes_the_validation() {
    for set in ["pickapic", "webdataset", "imagereward", "folders"] {
        succeeds(&mut data("validate", &golden("readers").join(set), &[]));
    }
}

/// Rows of a data set as our own file has them, without the paths of images.
fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        for field in ["winner", "loser"] {
            if let Some(name) = row[field].as_str() {
                row[field] = Path::new(name).file_stem().unwrap().to_string_lossy().into_owned().into();
            }
        }
        row
    };
    text.lines().map(row).collect()
}

#[test]
fn a_set_that_goes_through_every_format_and_back_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let step = |from: &Path, to: &str, out: &str| {
        let said = printed(data("convert", from, &["--to", to, "--out", at(out).to_str().unwrap()]));
        assert_eq!(said["rows"], 5, "{said}");
    };
    step(&golden("readers/pickapic"), "jsonl", "first");
    step(&at("first"), "webdataset", "shards");
    step(&at("shards"), "parquet", "parquet");
    step(&at("parquet"), "jsonl", "last");
    let (first, last) = (rows(&at("first/pairs.jsonl")), rows(&at("last/pairs.jsonl")));
    assert_eq!(first, last);
    assert_eq!(first[0]["generators"], serde_json::json!(["sd", "xl"]));
    assert_eq!((&first[4]["label"], &first[1]["weight"]), (&"tie".into(), &1.0.into()));
    assert_eq!(names(dir.path()), ["first", "last", "parquet", "shards"], "nothing unfinished is left");

    let error = diffpref()
        .args(["data", "convert"])
        .arg(golden("readers/hpdv2"))
        .args(["--to", "jsonl", "--out"])
        .arg(at("first"))
        .assert();
    let error = String::from_utf8_lossy(&error.failure().code(2).get_output().stderr).into_owned();
    assert!(error.contains("it exists already and is not empty; name another folder"), "{error}");
}

#[test]
fn lists_keep_their_ranks_and_an_unreadable_image_stops_a_conversion_unless_it_may_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("lists");
    let said =
        printed(data("convert", &golden("readers/imagereward"), &["--to", "jsonl", "--out", out.to_str().unwrap()]));
    assert_eq!((&said["rows"], &said["from"]), (&2.into(), &"imagereward".into()));
    let text = std::fs::read_to_string(out.join("lists.jsonl")).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["ranks"], serde_json::json!([1, 4, 2, 2]));

    let world = World::new(2);
    std::fs::remove_file(world.path("data/l1.png")).unwrap();
    let arguments =
        |out: &str| ["--to".to_string(), "parquet".into(), "--out".into(), world.path(out).display().to_string()];
    let mut command = data("convert", &world.pairs(), &[]);
    let error = world.refused(command.args(arguments("p")), 1);
    let said =
        "DIR/data/pairs.jsonl:2: DIR/data/l1.png: the file is missing; restore the image, or leave its row out with";
    assert!(error.contains(said), "{error}");
    assert!(!world.path("p").exists());
    let mut command = data("convert", &world.pairs(), &["--skip-unreadable"]);
    command.args(arguments("p"));
    assert_eq!(printed(command)["left_out"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_encoded_ahead_is_not_encoded_by_a_training() {
    let world = World::new(4);
    let cache = world.path("cache");
    let (model, cache) = (model().display().to_string(), cache.display().to_string());
    for share in ["1/2", "2/2"] {
        let said = printed(data(
            "cache",
            &world.pairs(),
            &["--model", &model, "--resolution", "16", "--flip", "--cache-dir", &cache, "--share", share],
        ));
        assert_eq!((&said["images"], &said["views"]), (&4.into(), &8.into()), "{said}");
    }
    let said = succeeds(&mut world.train_with(&["train.steps=1"]));
    assert!(!said.contains("encoding"), "{said}");
}

#[test]
fn a_model_ranks_the_pairs_of_any_format() {
    let model = format!("tiny={}", model().display());
    let said = printed(data(
        "inspect",
        &golden("readers/hpdv3"),
        &["--read-pairs", "0", "--model", &model, "--resolution", "16", "--device", "cpu"],
    ));
    let accuracy = said["model"]["ranking_accuracy"]["mean"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&accuracy) && said["model"]["pairs"] == 5, "{said}");
    assert!(said["contents"].is_null());
}

#[test]
fn filters_leave_rows_out_and_are_counted_in_plan_and_report() {
    let world = World::new(6);
    let row = |id: &str, prompt: &str, w: &str, l: &str, gap: f64| {
        let scores = serde_json::json!({"hps": [gap, 0.0]});
        let row = serde_json::json!({"id": id, "prompt": prompt, "winner": w, "loser": l, "scores": scores});
        format!("{row}\n")
    };
    let rows = [
        row("a", "x", "w0.png", "l0.png", 1.0),
        row("b", "x", "l0.png", "copy.png", 1.0),
        row("c", "y", "w1.png", "l1.png", -1.0),
        row("d", "a Nude man", "w2.png", "l2.png", 1.0),
        row("e", "z", "w3.png", "l3.png", 1.0),
        row("f", "z", "w4.png", "l4.png", 1.0),
        row("g", "v", "w5.png", "l5.png", 1.0),
    ];
    std::fs::write(world.pairs(), rows.concat()).unwrap();
    std::fs::copy(world.path("data/w0.png"), world.path("data/copy.png")).unwrap();
    let sets = [
        "validate.fraction=0",
        "data.contradictions=drop",
        "data.min_gap=0",
        "data.gap_scorer=hps",
        "data.blocked_words=[\"nude\"]",
        "data.max_per_prompt=1",
    ];
    let assert = world.train_with(&sets).args(["--dry-run", "--json"]).assert().success();
    let plan: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(plan["train_pairs"], 2);
    let notes = serde_json::json!([
        "1 of 7 rows have a word of data.blocked_words and are left out",
        "1 of 7 rows have a score gap below data.min_gap and are left out",
        "2 of 7 rows contradict another pair of their prompt and are left out",
        "1 of 7 rows are beyond data.max_per_prompt of their prompt and are left out",
    ]);
    assert_eq!(plan["notes"], notes);
    let said = succeeds(&mut world.train_with(&[&sets[..], &["train.steps=1"]].concat()));
    assert!(said.contains("note: 2 of 7 rows contradict another pair of their prompt and are left out"), "{said}");
    let report = json(&world.run_dir().join("data-report.json"));
    let filtered = serde_json::json!({"blocked_words": 1, "min_gap": 1, "contradictions": 2, "max_per_prompt": 1});
    assert_eq!(report["filtered"], filtered);
    let page = std::fs::read_to_string(world.run_dir().join("report.html")).unwrap();
    assert!(page.contains("contradict another pair of their prompt"));

    let without = world.refused(&mut world.train_with(&["data.min_gap=0"]), 2);
    assert!(without.contains("data.min_gap = 0: the scorer is missing. Name it in data.gap_scorer."), "{without}");
    let other = world.refused(&mut world.train_with(&["data.min_gap=0", "data.gap_scorer=clip"]), 1);
    assert!(other.contains("7 of 7 pairs have no score of \"clip\", which data.gap_scorer asks for"), "{other}");
}

#[test]
fn items_with_small_images_are_left_out_now_and_when_their_latents_are_cached() {
    let world = World::new(4);
    for side in ["w", "l"] {
        image::RgbImage::new(40, 40).save(world.path(&format!("data/{side}0.png"))).unwrap();
    }
    let sets = ["validate.fraction=0", "train.steps=1"];
    let large = [&sets[..], &["data.min_size=17"]].concat();
    let check = |name: &str| {
        let run = world.trained(name, &large);
        let report = json(&run.join("data-report.json"));
        assert_eq!(
            (&report["items_small"], &report["items_bad"], &report["train"]),
            (&3.into(), &0.into(), &4.into()),
            "{report}"
        );
    };
    check("first");
    world.trained("all", &sets);
    check("cached");
}
