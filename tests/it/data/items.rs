//! Reading pairs, lists and labelled images: what is accepted, and what every kind of bad input is told.

use diffpref::data::draws::held_out;
use diffpref::data::items::{Holdout, Item, ItemKind, ItemSet, Labels, Preference, ReadOptions, Ties, WrongKind};
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
    assert!(set.train[0].images[2].ends_with("3") && set.train[0].images.len() == 3);
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

/// A pair with the scores a, b and c of its winner; its loser has 0.5 of each.
fn scored(id: &str, winner: [f64; 3], label: &str) -> String {
    let [a, b, c] = winner;
    format!(
        "{{\"id\": \"{id}\", \"prompt\": \"a\", \"winner\": \"w{id}\", \"loser\": \"l{id}\", \"scores\": \
         {{\"a\": [{a}, 0.5], \"b\": [{b}, 0.5], \"c\": [{c}, 0.5]}}{label}}}\n"
    )
}

/// Ids, the first letter of the first image, and whether the pair is a tie.
fn winners(items: &[Item]) -> Vec<(String, String, bool)> {
    let name = |item: &Item| item.images[0].file_name().unwrap().to_string_lossy()[..1].to_string();
    items.iter().map(|item| (item.id.clone(), name(item), item.preference.is_tie())).collect()
}

fn of(rows: &[(&str, &str, bool)]) -> Vec<(String, String, bool)> {
    rows.iter().map(|(id, side, tie)| (id.to_string(), side.to_string(), *tie)).collect()
}

const TIE: &str = ", \"label\": \"tie\"";

#[test]
fn scores_and_votes_rank_pairs_anew_and_even_ones_are_dropped() {
    let text = scored("1", [0.9, 0.1, 0.1], "")
        + &scored("2", [0.1, 0.9, 0.9], "")
        + &scored("3", [0.5, 0.5, 0.9], "")
        + &scored("4", [0.1, 0.1, 0.1], TIE);
    let labelled = |labels: &str, ties: Ties| {
        read_with(&text, |o| (o.labels, o.ties) = (Labels::parse(labels).unwrap(), ties)).unwrap()
    };
    let set = labelled("score:a", Ties::Drop);
    assert_eq!(winners(&set.train), of(&[("1", "w", false), ("2", "l", false)]));
    assert_eq!((set.dropped_ties, set.dropped_labels), (vec!["4".to_string()], vec!["3".to_string()]));
    assert_eq!(set.train[1].scores["a"], [0.5, 0.1], "scores follow their images");
    let set = labelled("vote:a,b,c", Ties::Drop);
    assert_eq!(winners(&set.train), of(&[("1", "l", false), ("2", "w", false), ("3", "w", false)]));
}

#[test]
fn a_vote_that_is_even_drops_the_pair() {
    let text = scored("1", [0.9, 0.1, 0.1], "") + &scored("2", [0.1, 0.2, 0.9], "");
    let set = read_with(&text, |o| o.labels = Labels::parse("vote:a,b").unwrap()).unwrap();
    assert_eq!(winners(&set.train), of(&[("2", "l", false)]));
    assert_eq!(set.dropped_labels, ["1"]);
}

#[test]
fn kept_ties_stay_ties_whatever_their_scores() {
    let text = scored("1", [0.9, 0.1, 0.1], "") + &scored("4", [0.1, 0.1, 0.1], TIE);
    let unscored = "{\"id\": 5, \"prompt\": \"a\", \"winner\": \"w5\", \"loser\": \"l5\", \"label\": \"tie\"}\n";
    let set = read_with(&(text + unscored), |o| (o.ties, o.labels) = (Ties::Keep, Labels::Score("b".into()))).unwrap();
    assert_eq!(winners(&set.train), of(&[("1", "l", false), ("4", "w", true), ("5", "w", true)]));
    assert!(set.dropped_ties.is_empty());
}

#[test]
fn winner_and_loser_change_places_after_relabelling() {
    let text = scored("1", [0.9, 0.1, 0.1], "") + &scored("2", [0.1, 0.9, 0.9], "");
    let read = |labels| read_with(&text, |o| (o.swapped, o.labels) = (true, labels)).unwrap();
    assert_eq!(winners(&read(Labels::Given).train), of(&[("1", "l", false), ("2", "l", false)]));
    let set = read(Labels::Score("a".into()));
    assert_eq!(winners(&set.train), of(&[("1", "l", false), ("2", "w", false)]));
    assert_eq!(set.train[0].scores["a"], [0.5, 0.9]);
    assert_eq!(set.train[1].scores["a"], [0.1, 0.5]);
}

#[test]
fn scores_that_are_missing_are_refused_with_the_first_pairs_and_their_lines() {
    let text =
        row("1", "a") + "\n" + &scored("2", [0.9, 0.1, 0.1], "") + &row("3", "a") + &row("4", "a") + &row("5", "a");
    let error = |change: &dyn Fn(&mut ReadOptions)| cut(&format!("{:#}", read_with(&text, change).unwrap_err()));
    assert_eq!(
        error(&|o| o.labels = Labels::Score("a".into())),
        "pairs.jsonl: 4 of 5 pairs have no score of \"a\", which data.labels asks for: \"1\" (line 1), \"3\" (line 4), \
         \"4\" (line 5) ..; there are scores of a, b, c. Add scores = {\"a\": [winner's, loser's]} to every row, or name \
         another scorer"
    );
    let said = error(&|o| o.scorer = Some("hps".into()));
    assert!(
        said.starts_with("pairs.jsonl: 5 of 5 pairs have no score of \"hps\", which method.scorer asks for:"),
        "{said}"
    );
    let said = cut(&format!("{:#}", read_with(&row("1", "a"), |o| o.scorer = Some("hps".into())).unwrap_err()));
    assert!(said.contains("1 of 1 pairs have no score of \"hps\"") && said.contains("no row has `scores`"), "{said}");
}

#[test]
fn pairs_that_are_all_even_leave_nothing_to_train_on() {
    let text = scored("1", [0.5, 0.1, 0.1], "") + &scored("4", [0.1, 0.1, 0.1], TIE);
    let error = cut(&format!("{:#}", read_with(&text, |o| o.labels = Labels::Score("a".into())).unwrap_err()));
    assert_eq!(
        error,
        "pairs.jsonl: of 2 rows 1 are ties and 1 are even by data.labels = \"score:a\"; all were dropped, there is nothing \
         to train on"
    );
}

fn desirables(items: &[Item]) -> Vec<(String, bool)> {
    let label = |item: &Item| matches!(item.preference, Preference::Label { desirable: true });
    items.iter().map(|item| (item.id.clone(), label(item))).collect()
}

fn pair(id: &str, prompt: &str, winner: &str, loser: &str, scores: [f64; 2]) -> String {
    let [w, l] = scores;
    format!(
        "{{\"id\": \"{id}\", \"prompt\": \"{prompt}\", \"winner\": \"{winner}\", \"loser\": \"{loser}\", \
         \"scores\": {{\"a\": [{w}, {l}]}}}}\n"
    )
}

#[test]
fn pairs_become_labelled_images_desirable_if_they_won_once() {
    let text = pair("1", "p", "x", "y", [0.9, 0.1])
        + &pair("2", "p", "y", "z", [0.1, 0.9])
        + &pair("3", "q", "z", "x", [0.9, 0.1])
        + &pair("4", "p", "y", "x", [0.5, 0.5]);
    let read = |labels| read_with(&text, |o| (o.wanted, o.labels) = (ItemKind::Labels, labels)).unwrap();
    let set = read(Labels::Given);
    let expected = [("1:w", true), ("1:l", true), ("2:l", false), ("3:w", true), ("3:l", false)];
    assert_eq!(desirables(&set.train), expected.map(|(id, won)| (id.to_string(), won)));
    assert_eq!((set.kind, set.rows, set.train[2].row), (ItemKind::Pairs, 4, 1));
    assert!(set.train[2].images[0].ends_with("z") && set.train[2].images.len() == 1);
    assert_eq!(set.train[2].scores["a"], [0.9]);
    // Relabelled: the place in the row names the item, who won decides the label; pair 4 is even and says nothing.
    let set = read(Labels::Score("a".into()));
    let expected = [("1:w", true), ("1:l", false), ("2:l", true), ("3:w", true), ("3:l", false)];
    assert_eq!(desirables(&set.train), expected.map(|(id, won)| (id.to_string(), won)));
}

#[test]
fn the_range_of_scores_runs_over_both_images_of_the_training_pairs() {
    let text = pair("1", "p", "x", "y", [0.9, 0.1]) + &pair("2", "p", "y", "z", [0.3, 1.5]);
    let set = read(&text).unwrap();
    assert_eq!((set.score_range("a"), set.score_range("b")), (Some([0.1, 1.5]), None));
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
