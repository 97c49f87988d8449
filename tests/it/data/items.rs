//! Reading pairs, lists and labelled images: what is accepted, and what every kind of bad input is told.

use super::relabelled::desirables;
use diffpref::data::draws::held_out;
use diffpref::data::items::{Holdout, ItemKind, ItemSet, Labels, Preference, ReadOptions, Ties, WrongKind};
use std::path::Path;

fn options(path: &Path) -> ReadOptions {
    ReadOptions {
        format: None,
        filters: Default::default(),
        path: path.into(),
        wanted: ItemKind::Pairs,
        ties: Ties::Drop,
        labels: Labels::Given,
        swapped: false,
        scorer: None,
        holdout: Holdout::Fraction(0.0),
    }
}

pub(super) fn row(id: &str, prompt: &str) -> String {
    format!("{{\"id\": {id}, \"prompt\": \"{prompt}\", \"winner\": \"a/w.png\", \"loser\": \"l.png\"}}\n")
}

/// Reads a pairs.jsonl with this content.
pub(super) fn read(text: &str) -> anyhow::Result<ItemSet> {
    read_with(text, |_| ())
}

pub(super) fn read_with(text: &str, change: impl FnOnce(&mut ReadOptions)) -> anyhow::Result<ItemSet> {
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

pub(super) fn cut(error: &str) -> String {
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
    assert!(set.train[0].images[0].file().ends_with("a/w.png") && set.train[0].images[0].file().is_absolute());
    assert_eq!(set.train[1].images[0].file(), Path::new("/w.png"));
    assert_eq!((set.train[1].weight, set.train[1].scores["hps"].clone()), (Some(0.5), vec![1.0, 0.5]));
    assert_eq!(set.ignored_fields.iter().collect::<Vec<_>>(), ["source"]);
    assert!(set.validation.is_empty());
}

#[test]
fn judgements_follow_the_images_when_a_score_ranks_them_the_other_way() {
    let text = concat!(
        "{\"prompt\": \"\", \"winner\": \"w.png\", \"loser\": \"l.png\", \"user\": 7, \"votes\": [3, 1], ",
        "\"labels\": {\"style\": 1, \"content\": 0.5}, \"scores\": {\"hps\": [0.1, 0.2]}}\n"
    );
    let given = &read(text).unwrap().train[0];
    assert_eq!((given.user.as_deref(), given.share), (Some("7"), Some(0.75)));
    assert_eq!((given.labels["style"], given.labels["content"]), (1.0, 0.5));
    let ranked = &read_with(text, |options| options.labels = Labels::Score("hps".into())).unwrap().train[0];
    assert!(ranked.images[0].file().ends_with("l.png"));
    assert_eq!((ranked.share, ranked.labels["style"], ranked.labels["content"]), (Some(0.25), 0.0, 0.5));
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
fn bad_lists_and_labels_are_refused_with_file_and_line() {
    let good_list = "{\"prompt\": \"a\", \"images\": [\"1\", \"2\"], \"ranks\": [1, 2]}\n";
    let good_label = "{\"prompt\": \"a\", \"image\": \"1\", \"label\": true}\n";
    let lists = [
        (r#""images": []"#, "field `images`: expected at least two paths of images, found []"),
        (r#""images": ["1"], "ranks": [1]"#, "field `images`: expected at least two paths of images, found [\"1\"]"),
        (r#""images": ["1", ""], "ranks": [1, 2]"#, "field `images`: expected at least two paths of images"),
        (r#""images": ["1", 2], "ranks": [1, 2]"#, "field `images`: expected at least two paths of images"),
        (
            r#""images": "1.png", "ranks": [1, 2]"#,
            "field `images`: expected at least two paths of images, found \"1.png\"",
        ),
        (r#""images": ["1", "2"]"#, "neither `ranks` nor `scores`: a list needs ranks = [1, 3, 2, ..] (1 = best) or"),
        (r#""images": ["1", "2"], "scores": {}"#, "neither `ranks` nor `scores`"),
        (
            r#""images": ["1", "2"], "ranks": [1, 2, 3]"#,
            "field `ranks`: expected 2 whole numbers from 1 (the best), one an image, found [1,2,3]",
        ),
        (r#""images": ["1", "2"], "ranks": [0, 1]"#, "field `ranks`: expected 2 whole numbers from 1 (the best)"),
        (r#""images": ["1", "2"], "ranks": [1.5, 1]"#, "field `ranks`: expected 2 whole numbers from 1 (the best)"),
        (
            r#""images": ["1", "2"], "scores": {"hps": [1]}"#,
            "field `scores`: expected {\"scorer\": [2 scores, one an image]}, found {\"hps\":[1]}",
        ),
        (r#""ranks": [1, 2]"#, "missing field `images`; a list needs prompt, images and ranks or scores, found"),
        (
            r#""images": ["1", "2"], "winner": "w""#,
            "found both `winner` and `images`; pairs have prompt, winner and loser",
        ),
    ];
    let labels = [
        (r#""image": "1""#, "missing field `label`; a labelled image needs prompt, image and label, found"),
        (r#""image": "1", "lable": true"#, "missing field `label`; found `lable`: rename it to `label`"),
        (r#""image": "1", "label": "good""#, "field `label`: expected true (desirable) or false, found \"good\""),
        (r#""image": "1", "label": 1"#, "field `label`: expected true (desirable) or false, found 1"),
        (r#""image": "", "label": true"#, "field `image`: expected the path of an image, found an empty string"),
        (r#""label": false"#, "missing field `image`; a labelled image needs prompt, image and label"),
        (
            r#""images": ["1", "2"], "ranks": [1, 2]"#,
            "this row is one of lists, the rows before it are labelled images; a file holds one kind: part it in two",
        ),
        (r#""winner": "1", "loser": "2""#, "this row is one of pairs, the rows before it are labelled images"),
    ];
    let lists = lists.into_iter().map(|(row, message)| (ItemKind::Lists, good_list, row, message));
    let labels = labels.into_iter().map(|(row, message)| (ItemKind::Labels, good_label, row, message));
    for (kind, good, row, message) in lists.chain(labels) {
        let text = format!("{good}{{\"prompt\": \"a\", {row}}}\n");
        let error = cut(&format!("{:#}", read_with(&text, |o| o.wanted = kind).unwrap_err()));
        assert!(error.starts_with(&format!("pairs.jsonl:2: {message}")), "{row}: {error}\nexpected {message}");
    }
}

#[test]
fn lists_bring_win_fractions_of_their_scores_or_else_of_their_ranks() {
    let text = concat!(
        r#"{"id": "s", "prompt": "a", "images": ["1", "2", "3"], "scores": {"x": [3, 2, 1], "y": [2, 3, 1]}, "ranks": [3, 2, 1]}"#,
        "\n",
        r#"{"id": "r", "prompt": "a", "images": ["1", "2", "3", "4"], "ranks": [2, 1, 3, 3], "weight": 2}"#,
        "\n",
    );
    let set = read_with(text, |o| o.wanted = ItemKind::Lists).unwrap();
    let phi = |phi: &[f64]| Preference::List { phi: phi.to_vec() };
    assert_eq!((set.kind, set.rows), (ItemKind::Lists, 2));
    assert_eq!(set.train[0].preference, phi(&[0.75, 0.75, 0.0]));
    assert_eq!(set.train[1].preference, phi(&[2.0 / 3.0, 1.0, 0.0, 0.0]));
    assert!(set.train[0].images[2].file().ends_with("3") && set.train[0].images.len() == 3);
    assert_eq!(set.train[0].scores["y"], [2.0, 3.0, 1.0]);
    assert_eq!(set.ignored_fields.iter().collect::<Vec<_>>(), ["weight"]);
}

#[test]
fn labelled_images_are_read_and_both_classes_are_needed() {
    let row = |id: &str, label: bool| {
        format!("{{\"id\": \"{id}\", \"prompt\": \"a\", \"image\": \"{id}.png\", \"label\": {label}}}\n")
    };
    let text = row("1", true) + &row("2", false);
    let set = read_with(&text, |o| o.wanted = ItemKind::Labels).unwrap();
    assert_eq!(desirables(&set.train), [("1".into(), true), ("2".into(), false)]);
    for (label, said) in [
        (true, "all 1 images to train on are desirable, expected some that are undesirable too"),
        (false, "all 1 images to train on are undesirable, expected some that are desirable too"),
    ] {
        let error = format!("{:#}", read_with(&row("1", label), |o| o.wanted = ItemKind::Labels).unwrap_err());
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn files_of_another_kind_are_refused_with_what_they_hold() {
    let list = "{\"prompt\": \"a\", \"images\": [\"1\", \"2\"], \"ranks\": [1, 2]}\n";
    let label = "{\"prompt\": \"a\", \"image\": \"1\", \"label\": true}\n";
    let pair = row("1", "a");
    for (text, holds, wanted) in [
        (list, ItemKind::Lists, ItemKind::Pairs),
        (label, ItemKind::Labels, ItemKind::Pairs),
        (&pair, ItemKind::Pairs, ItemKind::Lists),
        (label, ItemKind::Labels, ItemKind::Lists),
        (list, ItemKind::Lists, ItemKind::Labels),
    ] {
        let error = read_with(text, |o| o.wanted = wanted).unwrap_err();
        let wrong = error.downcast_ref::<WrongKind>().unwrap();
        assert_eq!((wrong.holds, wrong.wanted), (holds, wanted));
        assert!(wrong.file.ends_with("pairs.jsonl"));
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
    assert!(
        refusal("\n \n").starts_with("pairs.jsonl: no pairs; expected rows with prompt, winner and loser, found none")
    );
    let error = format!("{:#}", read_with(&row("1", "a"), |o| o.holdout = Holdout::Fraction(1.0)).unwrap_err());
    assert!(error.contains("all 1 pairs are held out for validation"), "{error}");
}

#[test]
fn a_path_without_exactly_one_data_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| format!("{:#}", ItemSet::read(&options(path)).unwrap_err());
    assert!(error(dir.path()).contains("holds no data of a known format. Known are:"));
    std::fs::write(dir.path().join("pairs.jsonl"), row("1", "a")).unwrap();
    assert!(ItemSet::read(&options(dir.path())).is_ok());
    std::fs::write(dir.path().join("more.jsonl"), row("1", "a")).unwrap();
    assert!(error(dir.path()).contains("holds 2 data files (more.jsonl, pairs.jsonl), expected exactly one"));
    assert!(error(&dir.path().join("nothing")).contains("data.path: cannot find"));
}
