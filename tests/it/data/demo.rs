//! The bundled preference data: every kind of row is whole, small, and says truly who labelled it.

use diffpref::data::items::{Holdout, ItemKind, ItemSet, Labels, ReadOptions, Ties};
use diffpref::scorers::labelled_by::labellers;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn emoji(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/emoji").join(file)
}

fn rows(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(emoji(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{file}: {e}: {line}"))).collect()
}

fn names(held_out: bool) -> Vec<String> {
    let names = rows("names.jsonl");
    let of = names.iter().filter(|row| row["held_out"] == held_out);
    of.map(|row| row["prompt"].as_str().unwrap().to_string()).collect()
}

fn images(row: &Value) -> Vec<String> {
    let fields = ["winner", "loser", "image"].iter().filter_map(|field| row[*field].as_str());
    let listed = row["images"].as_array().into_iter().flatten().filter_map(Value::as_str);
    fields.chain(listed).map(String::from).collect()
}

const DATA: [&str; 4] = ["pairs.jsonl", "lists.jsonl", "ties.jsonl", "labels.jsonl"];

#[test]
fn every_row_shows_pictures_of_64_pixels_under_a_training_name() {
    let training: BTreeSet<String> = names(false).into_iter().collect();
    for file in DATA {
        let rows = rows(file);
        let ids: BTreeSet<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), rows.len(), "{file}: an id stands twice");
        for row in &rows {
            assert!(training.contains(row["prompt"].as_str().unwrap()), "{file}: {row}");
            for image in images(row) {
                assert_eq!(image::image_dimensions(emoji(&image)).unwrap(), (64, 64), "{file}: {image}");
            }
        }
    }
}

#[test]
fn every_score_is_a_number_for_each_image_and_three_scorers_give_them() {
    for file in ["pairs.jsonl", "lists.jsonl", "ties.jsonl"] {
        for row in rows(file) {
            let scores = row["scores"].as_object().unwrap();
            let scorers: BTreeSet<&str> = scores.keys().map(String::as_str).collect();
            assert_eq!(scorers, BTreeSet::from(["content", "nearest", "style"]), "{file}");
            for values in scores.values() {
                let numbers = values.as_array().unwrap().iter().filter(|value| value.is_number()).count();
                assert_eq!(numbers, images(&row).len(), "{file}: {row}");
            }
        }
    }
    assert!(rows("lists.jsonl").iter().all(|row| images(row).len() == 4));
}

#[test]
fn no_scorer_of_the_pairs_is_a_copy_of_the_label_or_of_another() {
    let pairs = rows("pairs.jsonl");
    let prefers = |row: &Value, scorer: &str| {
        row["scores"][scorer][0].as_f64().unwrap() > row["scores"][scorer][1].as_f64().unwrap()
    };
    for (one, other) in [("content", "style"), ("content", "nearest"), ("nearest", "style")] {
        let differ = pairs.iter().filter(|row| prefers(row, one) != prefers(row, other)).count();
        assert!(differ * 10 > pairs.len(), "{one} and {other} differ on {differ} of {} pairs", pairs.len());
    }
    let outvoted = |row: &&Value| ["style", "content", "nearest"].iter().filter(|name| prefers(row, name)).count() < 2;
    assert!(pairs.iter().filter(outvoted).count() * 20 > pairs.len(), "a vote never overrules the label");
}

#[test]
fn every_file_reads_as_its_kind_and_a_third_of_the_ties_are_ties() {
    let read = |file: &str, wanted: ItemKind| {
        ItemSet::read(&ReadOptions {
            format: None,
            filters: Default::default(),
            path: emoji(file),
            wanted,
            ties: Ties::Drop,
            labels: Labels::Given,
            swapped: false,
            scorer: None,
            holdout: Holdout::Fraction(0.1),
        })
        .unwrap()
    };
    let kinds = [ItemKind::Pairs, ItemKind::Lists, ItemKind::Pairs, ItemKind::Labels];
    for ((file, kind), rows) in DATA.into_iter().zip(kinds).zip([128, 64, 128, 512]) {
        let set = read(file, kind);
        assert_eq!((set.kind, set.rows), (kind, rows), "{file}");
        assert!(set.ignored_fields.is_empty(), "{file}: {:?}", set.ignored_fields);
        let ties = set.dropped_ties.len() as f64 / rows as f64;
        assert!(if file == "ties.jsonl" { (0.2..=0.4).contains(&ties) } else { ties == 0.0 }, "{file}: {ties} ties");
    }
}

#[test]
fn labels_have_enough_of_both_kinds_among_samples() {
    let samples: Vec<Value> =
        rows("labels.jsonl").into_iter().filter(|row| row["image"].as_str().unwrap().starts_with("samples/")).collect();
    let desirable = samples.iter().filter(|row| row["label"] == true).count();
    assert!((samples.len() / 5..samples.len() * 4 / 5).contains(&desirable), "{desirable} of {}", samples.len());
}

#[test]
fn the_prompt_files_are_the_names_of_each_side() {
    for (file, held_out, count) in [("prompts.txt", false, 128), ("prompts-heldout.txt", true, 32)] {
        let text = std::fs::read_to_string(emoji(file)).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), names(held_out), "{file}");
        assert_eq!(text.lines().count(), count, "{file}");
    }
}

#[test]
fn the_judge_that_labelled_is_the_bundled_one_for_labels_and_not_the_one_that_judges() {
    let hash = |judge: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(judge);
        diffpref::machine::hashes::of_file(&dir.join("model.safetensors")).unwrap()
    };
    assert_ne!(hash("judge"), hash("judge-labels"));
    for (file, labels) in
        [("pairs.jsonl", "score:style"), ("lists.jsonl", "given"), ("ties.jsonl", "given"), ("labels.jsonl", "given")]
    {
        let found = labellers(&emoji(file), &Labels::parse(labels).unwrap()).unwrap();
        let hashes: Vec<&str> = found.iter().map(|labeller| labeller.weights_sha256.as_str()).collect();
        assert_eq!(hashes, [hash("judge-labels")], "{file}");
    }
    // Flat drawings win by choice, and the nearest drawing is no judge of weights.
    for labels in [Labels::Given, Labels::Score("nearest".into())] {
        assert_eq!(labellers(&emoji("pairs.jsonl"), &labels).unwrap(), []);
    }
}
