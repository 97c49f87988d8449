//! Reading pairs, lists and labelled images: what is accepted, and what every kind of bad input is told.

use diffpref::data::draws::held_out;
use diffpref::data::items::{Holdout, ItemKind, ItemSet, Labels, ReadOptions, Ties};
use std::path::Path;

fn options(path: &Path) -> ReadOptions {
    ReadOptions {
        path: path.into(),
        wanted: ItemKind::Pairs,
        ties: Ties::Drop,
        labels: Labels::Given,
        swapped: false,
        scorer: None,
        holdout: Holdout::Fraction(0.0),
    }
}

fn row(id: &str, prompt: &str) -> String {
    format!("{{\"id\": {id}, \"prompt\": \"{prompt}\", \"winner\": \"a/w.png\", \"loser\": \"l.png\"}}\n")
}

/// Reads a pairs.jsonl with this content.
fn read(text: &str) -> anyhow::Result<ItemSet> {
    read_with(text, |_| ())
}

fn read_with(text: &str, change: impl FnOnce(&mut ReadOptions)) -> anyhow::Result<ItemSet> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs.jsonl");
    std::fs::write(&path, text).unwrap();
    let mut options = options(&path);
    change(&mut options);
    ItemSet::read(&options)
}

/// The error of reading this content, with the folder cut off.
fn refusal(text: &str) -> String {
    cut(&format!("{:#}", read(text).unwrap_err()))
}

fn cut(error: &str) -> String {
    match error.find("pairs.jsonl") {
        Some(start) => error[start..].to_string(),
        None => error.to_string(),
    }
}

#[test]
fn rows_become_pairs_with_paths_relative_to_the_file() {
    let text = format!(
        "\u{feff}{}\n{}",
        row("7", "a cat"),
        concat!(
            "{\"prompt\": \"\", \"winner\": \"/w.png\", \"loser\": \"l.png\", \"weight\": 0.5, ",
            "\"scores\": {\"hps\": [1, 0.5]}, \"label\": null, \"source\": 1}"
        )
    );
    let set = read(&text).unwrap();
    assert_eq!(set.train.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["7", "1"]);
    assert!(set.train[0].images[0].ends_with("a/w.png") && set.train[0].images[0].is_absolute());
    assert_eq!(set.train[1].images[0], Path::new("/w.png"));
    assert_eq!((set.train[1].weight, set.train[1].scores["hps"].clone()), (Some(0.5), vec![1.0, 0.5]));
    assert_eq!(set.ignored_fields.iter().collect::<Vec<_>>(), ["source"]);
    assert!(set.validation.is_empty());
}

#[test]
fn prompts_are_held_out_together_and_the_order_stays() {
    let text: String = (0..60).map(|i| row(&i.to_string(), &format!("prompt {}", i / 2))).collect();
    let set = read_with(&text, |o| o.holdout = Holdout::Fraction(0.3)).unwrap();
    assert_eq!(set.train.len() + set.validation.len(), 60);
    assert!(set.validation.len() > 4);
    assert!(set.validation.iter().all(|p| held_out(&p.prompt, 0.3)));
    assert!(set.train.iter().all(|p| !held_out(&p.prompt, 0.3)));
    assert!(set.train.windows(2).all(|w| w[0].row < w[1].row));
}

#[test]
fn a_validation_file_is_read_beside_the_training_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("held")).unwrap();
    std::fs::write(dir.path().join("pairs.jsonl"), row("1", "a")).unwrap();
    std::fs::write(dir.path().join("held/other.jsonl"), row("1", "b")).unwrap();
    let mut options = options(dir.path());
    let alone = ItemSet::read(&options).unwrap();
    options.holdout = Holdout::File(dir.path().join("held"));
    let set = ItemSet::read(&options).unwrap();
    assert_eq!((set.train.len(), set.validation.len()), (1, 1));
    assert_ne!(set.index_sha256, alone.index_sha256);
}

#[test]
fn ties_are_dropped_and_listed_or_refused() {
    let tie = "{\"id\": \"t\", \"prompt\": \"a\", \"winner\": \"w\", \"loser\": \"l\", \"label\": \"tie\"}\n";
    let text = format!("{tie}{}", row("1", "a"));
    let set = read(&text).unwrap();
    assert_eq!((set.train.len(), set.dropped_ties.clone(), set.rows), (1, vec!["t".to_string()], 2));
    let error = format!("{:#}", read_with(&text, |o| o.ties = Ties::Error).unwrap_err());
    assert_eq!(
        cut(&error),
        "pairs.jsonl:1: the pair \"t\" is a tie and data.ties is \"error\"; remove the row or set data.ties = \"drop\""
    );
    assert!(refusal(tie).contains("all 1 rows are ties"));
}

#[test]
fn bad_rows_are_refused_with_file_and_line() {
    let good = row("1", "a");
    let cases = [
        ("{\"prompt\": \"a\", \"winner\": \n", "not valid JSON at column"),
        ("[1, 2]\n", "expected a JSON object with prompt, winner and loser, found an array"),
        (
            "{\"prompt\": \"a\", \"winner\": \"w\"}\n",
            "missing field `loser`; a pair needs prompt, winner and loser, found `prompt`, `winner`",
        ),
        (
            "{\"prompt\": \"a\", \"winer\": \"w\", \"loser\": \"l\"}\n",
            "missing field `winner`; found `winer`: rename it to `winner`",
        ),
        (
            "{\"prompt\": 3, \"winner\": \"w\", \"loser\": \"l\"}\n",
            "field `prompt`: expected a string, found the number 3",
        ),
        (
            "{\"prompt\": \"a\", \"winner\": \"\", \"loser\": \"l\"}\n",
            "field `winner`: expected the path of an image, found an empty string",
        ),
        (
            "{\"id\": 1.5, \"prompt\": \"a\", \"winner\": \"w\", \"loser\": \"l\"}\n",
            "field `id`: expected a string or a whole number, found the number 1.5",
        ),
        (
            "{\"prompt\": \"a\", \"winner\": \"w\", \"loser\": \"l\", \"label\": \"draw\"}\n",
            "field `label`: expected \"tie\" or no label, found \"draw\"",
        ),
        (
            "{\"prompt\": \"a\", \"winner\": \"w\", \"loser\": \"l\", \"weight\": -1}\n",
            "field `weight`: expected a number of at least 0, found -1",
        ),
        (
            "{\"prompt\": \"a\", \"winner\": \"w\", \"loser\": \"l\", \"scores\": {\"x\": 1}}\n",
            "field `scores`: expected {\"scorer\": [winner's, loser's]}, found {\"x\":1}",
        ),
        (good.as_str(), "the id \"1\" stands in line 1 already"),
    ];
    for (bad, message) in cases {
        let error = refusal(&format!("{good}{bad}"));
        assert!(error.starts_with(&format!("pairs.jsonl:2: {message}")), "{error}\nexpected {message}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs.jsonl");
    std::fs::write(&path, [row("1", "a").as_bytes(), b"{\"prompt\": \"\xff\"}"].concat()).unwrap();
    let error = format!("{:#}", ItemSet::read(&options(&path)).unwrap_err());
    assert!(error.ends_with("pairs.jsonl:2: not valid UTF-8; save the file as UTF-8"), "{error}");
}

#[test]
fn zero_pairs_are_refused() {
    assert!(refusal("\n \n").starts_with("pairs.jsonl: no pairs; expected one JSON object a line"));
    let error = format!("{:#}", read_with(&row("1", "a"), |o| o.holdout = Holdout::Fraction(1.0)).unwrap_err());
    assert!(error.contains("all 1 pairs are held out for validation"), "{error}");
}

#[test]
fn a_path_without_exactly_one_data_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| format!("{:#}", ItemSet::read(&options(path)).unwrap_err());
    assert!(error(dir.path()).contains("holds no .jsonl file; expected exactly one"));
    std::fs::write(dir.path().join("pairs.jsonl"), row("1", "a")).unwrap();
    assert!(ItemSet::read(&options(dir.path())).is_ok());
    std::fs::write(dir.path().join("more.jsonl"), row("1", "a")).unwrap();
    assert!(error(dir.path()).contains("holds 2 data files (more.jsonl, pairs.jsonl), expected exactly one"));
    assert!(error(&dir.path().join("nothing")).contains("data.path: cannot find"));
}
