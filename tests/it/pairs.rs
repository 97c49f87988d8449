//! `diffpref pairs`: files, training on them, and refusals.

use crate::support::{Messages, World, diffpref, json, succeeds};
use assert_cmd::Command;
use diffpref::data::items::Labels;
use diffpref::scorers::labelled_by::labellers;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Scored candidates: pictures `P-I.png` of prompts `prompt P`, with numbers of two or three measures.
struct Scored(World);

impl Scored {
    /// `numbers[p][i]`: those of candidate i of prompt p, by `a.x`, `b.y`, `c.z`.
    fn new(numbers: &[Vec<Vec<f64>>]) -> Self {
        let scored = Self(World::new(0));
        let mut rows = String::new();
        for (p, candidates) in numbers.iter().enumerate() {
            for (i, of) in candidates.iter().enumerate() {
                let name = format!("{p}-{i}.png");
                let colour = [(40 * p) as u8, (60 * i) as u8, 90];
                image::RgbImage::from_pixel(20, 16, image::Rgb(colour)).save(scored.path(&name)).unwrap();
                let names = [("a", "x"), ("b", "y"), ("c", "z")];
                let scores: serde_json::Map<String, Value> =
                    names.iter().zip(of).map(|((s, m), number)| (s.to_string(), json!({*m: number}))).collect();
                let row = json!({"picture": name, "prompt": format!("prompt {p}"), "scores": scores, "model": format!("m{}", i % 2)});
                rows += &format!("{row}\n");
            }
        }
        std::fs::write(scored.path("scores.jsonl"), rows).unwrap();
        scored
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(&format!("data/{name}"))
    }

    fn pairs(&self, arguments: &[&str]) -> Command {
        let mut command = diffpref();
        command.arg("pairs").arg(self.path("scores.jsonl")).arg("--out").arg(self.0.path("out")).args(arguments);
        command
    }

    fn summary(&self, arguments: &[&str]) -> Value {
        succeeds(&mut self.pairs(arguments));
        json(&self.0.path("out/pairs.json"))
    }

    fn rows(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.path("out").join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// One measure.
fn single(prompts: &[&[f64]]) -> Scored {
    let numbers: Vec<Vec<Vec<f64>>> = prompts.iter().map(|of| of.iter().map(|x| vec![*x]).collect()).collect();
    Scored::new(&numbers)
}

#[test]
fn the_best_and_the_worst_become_a_pair_ties_stay_ties_and_all_that_is_dropped_is_counted() {
    let scored = single(&[&[0.2, 0.9, 0.5], &[0.4, 0.4], &[0.1], &[0.3, 0.31]]);
    let summary = scored.summary(&["--min-margin", "0.5", "--report"]);
    let rows = scored.rows("pairs.jsonl");
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0]["winner"].as_str(), rows[0]["loser"].as_str()),
        (Some("../data/0-1.png"), Some("../data/0-0.png"))
    );
    assert_eq!((&rows[0]["scores"]["a.x"], rows[0].get("label")), (&json!([0.9, 0.2]), None));
    // z-scores: the mean measure over all eight candidates.
    let all = [0.2, 0.9, 0.5, 0.4, 0.4, 0.1, 0.3, 0.31];
    let mean = all.iter().sum::<f64>() / 8.0;
    let std = (all.iter().map(|x: &f64| (x - mean).powi(2)).sum::<f64>() / 8.0).sqrt();
    assert!((rows[0]["margin"].as_f64().unwrap() - 0.7 / std).abs() < 1e-9);
    assert_eq!((rows[1]["label"].as_str(), rows[1]["prompt"].as_str()), (Some("tie"), Some("prompt 1")));
    assert_eq!(summary["dropped"], json!({"one_candidate": 1, "below_margin": 1}));
    assert_eq!((&summary["written"], &summary["ties"]), (&json!(2), &json!(1)));
    let page = std::fs::read_to_string(scored.0.path("out/report.html")).unwrap();
    for part in ["Around the 5th", "Around the 95th", "pairs below --min-margin", "data:image/png;base64,", "a tie"] {
        assert!(page.contains(part), "{part}");
    }
    let summary = scored.summary(&["--ties", "drop"]);
    assert_eq!(summary["dropped"], json!({"one_candidate": 1, "tie": 1}));
}

#[test]
fn requirements_drop_pairs_by_their_own_reason() {
    // a and b agree on prompt 0, contradict each other on prompt 1.
    let scored = Scored::new(&[vec![vec![1.0, 1.0], vec![0.0, 0.5]], vec![vec![1.0, 0.0], vec![0.0, 0.9]]]);
    let summary = scored.summary(&["--require", "pareto"]);
    assert_eq!((&summary["written"], &summary["dropped"]), (&json!(1), &json!({"not_pareto": 1})));
    let summary = scored.summary(&["--require", "vote", "--by", "a.x:3", "--by", "b.y"]);
    assert_eq!((&summary["written"], &summary["dropped"]), (&json!(2), &json!({})));
    let summary = scored.summary(&["--require", "vote", "--by", "a.x", "--by", "b.y"]);
    assert_eq!(summary["dropped"], json!({"vote_tied": 1}));
}

#[test]
fn votes_that_form_a_cycle_rank_nothing_and_are_counted() {
    let circle = vec![vec![3.0, 1.0, 2.0], vec![2.0, 3.0, 1.0], vec![1.0, 2.0, 3.0]];
    let order = vec![vec![3.0, 3.0, 3.0], vec![2.0, 2.0, 2.0], vec![1.0, 1.0, 1.0]];
    let scored = Scored::new(&[circle.clone(), order]);
    let summary = scored.summary(&["--combine", "copeland", "--rule", "all"]);
    assert_eq!((&summary["cyclic_triples"], &summary["dropped"]), (&json!(0.5), &json!({"cycle": 1})));
    assert_eq!(summary["written"], 3);
    let scored = Scored::new(&[circle]);
    let said = scored.0.refused(&mut scored.pairs(&["--combine", "copeland"]), 1);
    assert!(
        said.contains("no pair is left of 1 prompts: 1 prompts whose measures form a cycle and rank nothing"),
        "{said}"
    );
}

#[test]
fn votes_that_do_not_fit_the_others_drop_their_pairs() {
    // Three measures of one opinion: near and far candidates have the same odds, which no scores can meet.
    let candidates: Vec<Vec<f64>> = (0..6).map(|i| vec![f64::from(6 - i); 3]).collect();
    let scored = Scored::new(&[candidates]);
    let summary = scored.summary(&["--combine", "robust", "--rule", "all"]);
    let corrupted = summary["dropped"]["corrupted_vote"].as_u64().unwrap();
    assert_eq!((corrupted > 0, summary["written"].as_u64().unwrap() + corrupted), (true, 15));
    let few = single(&[&[1.0, 2.0, 3.0]]);
    let said = few.0.refused(&mut few.pairs(&["--combine", "robust"]), 1);
    assert!(said.contains("fewer than 4 candidates, which --combine robust needs"), "{said}");
}

#[test]
fn lists_rank_and_small_margins_are_for_annotators() {
    let scored = single(&[&[0.2, 0.9, 0.2, 0.5], &[0.1, 0.1]]);
    let summary = scored.summary(&["--rule", "list"]);
    let rows = scored.rows("lists.jsonl");
    assert_eq!((&rows[0]["ranks"], rows[0]["images"][1].as_str()), (&json!([3, 1, 3, 2]), Some("../data/0-1.png")));
    assert_eq!((&summary["written"], &summary["dropped"]), (&json!(1), &json!({"tie": 1})));
    let summary = scored.summary(&["--rule", "small_margins", "--budget", "3"]);
    let rows = scored.rows("annotate.jsonl");
    let margins: Vec<f64> = rows.iter().map(|row| row["margin"].as_f64().unwrap()).collect();
    assert!(margins[..2] == [0.0, 0.0] && margins[2] > 0.0, "{margins:?}");
    assert_eq!(
        (rows[2]["first"].as_str(), rows[2]["second"].as_str()),
        (Some("../data/0-0.png"), Some("../data/0-3.png"))
    );
    assert_eq!(summary["dropped"], json!({"budget": 4}));
}

#[test]
fn weak_pairs_are_marked_dropped_or_exchanged() {
    // a alone decides; b and c contradict it in prompt 0 of ten.
    let numbers: Vec<Vec<Vec<f64>>> = (0..10)
        .map(|p| {
            let sign = if p == 0 { -1.0 } else { 1.0 };
            vec![vec![1.0, sign, sign], vec![0.0, -sign, -sign]]
        })
        .collect();
    let scored = Scored::new(&numbers);
    let by = ["--by", "a.x:9", "--by", "b.y", "--by", "c.z"];
    let summary = scored.summary(&[&by[..], &["--strength", "write"]].concat());
    let rows = scored.rows("pairs.jsonl");
    let mean = |row: &Value| row["strength"]["mean"].as_f64().unwrap();
    assert!(mean(&rows[0]) < 0.0 && mean(&rows[1]) > 0.0, "{rows:?}");
    // One tenth below 0 is mislabelled, the next tenth ambiguous.
    assert_eq!(rows.iter().filter(|row| row["strength"].get("soft_label").is_some()).count(), 1);
    assert_eq!(summary["written"], 10);
    let summary = scored.summary(&[&by[..], &["--strength", "drop"]].concat());
    assert_eq!((&summary["written"], &summary["dropped"]), (&json!(9), &json!({"mislabelled": 1})));
    let summary = scored.summary(&[&by[..], &["--strength", "flip"]].concat());
    assert_eq!((&summary["written"], &summary["flipped"]), (&json!(10), &json!(1)));
    assert_eq!(scored.rows("pairs.jsonl")[0]["winner"], "../data/0-1.png");
}

#[test]
fn ratings_of_generators_calibrate_their_scores() {
    // docs/methods.md 31.6: m0 is rated 50 points below m1, and the scorer prefers it always.
    let numbers: Vec<Vec<Vec<f64>>> =
        [(0.9, 0.5), (0.7, 0.65), (0.8, 0.6), (0.6, 0.55)].iter().map(|(a, b)| vec![vec![*a], vec![*b]]).collect();
    let scored = Scored::new(&numbers);
    std::fs::write(scored.path("elo.json"), r#"{"m0": 1000, "m1": 1050}"#).unwrap();
    let elo = scored.path("elo.json").display().to_string();
    let summary = scored.summary(&["--elo", &elo, "--report"]);
    let first = &summary["calibration"][0];
    assert!((first["mismatch"]["m1"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{first}");
    assert!(first["offset"].as_f64().unwrap() < -0.1, "{first}");
    let wins =
        scored.rows("pairs.jsonl").iter().filter(|row| row["winner"].as_str().unwrap().ends_with("-0.png")).count();
    assert!(wins < 4, "{wins}");
    std::fs::write(scored.path("elo.json"), r#"{"m0": 1000}"#).unwrap();
    let said = scored.0.refused(&mut scored.pairs(&["--elo", &elo]), 1);
    assert!(said.contains("no rating of \"m1\", which rows name; add it"), "{said}");
}

#[test]
fn pairs_lists_and_ties_train() {
    let numbers: Vec<Vec<Vec<f64>>> =
        (0..8).map(|p| (0..3).map(|i| vec![f64::from((p * i) % 5), f64::from(i)]).collect()).collect();
    let scored = Scored::new(&numbers);
    let train = |file: &str, sets: &[&str]| {
        let data = format!("data.path=\"{}\"", scored.0.path("out").join(file).display());
        let out = format!("train.out=\"{}\"", scored.0.path(&format!("run-{file}")).display());
        let all = [&[data.as_str(), out.as_str(), "train.steps=2"], sets].concat();
        succeeds(&mut scored.0.train_with(&all));
        crate::support::metrics(&scored.0.path(&format!("run-{file}"))).len()
    };
    succeeds(&mut scored.pairs(&["--rule", "all", "--combine", "borda"]));
    assert!(scored.rows("pairs.jsonl").iter().any(|row| row["label"] == "tie"));
    assert_eq!(train("pairs.jsonl", &[]), 2);
    succeeds(&mut scored.pairs(&["--rule", "list"]));
    assert_eq!(train("lists.jsonl", &["method.name=rankdpo"]), 2);
}

#[test]
fn scores_of_the_command_become_pairs_and_their_directions_are_known() {
    let world = World::new(0);
    let pictures = crate::support::golden("scorers");
    let row = |file: &str| json!({"picture": pictures.join(file), "prompt": "a picture"}).to_string() + "\n";
    std::fs::write(world.path("rows.jsonl"), row("fluent-emoji-house.png") + &row("fluent-emoji-bicycle.png")).unwrap();
    let mut score = diffpref();
    score.env("XDG_CACHE_HOME", world.path("cache")).arg("score").arg(world.path("rows.jsonl"));
    let brisque = format!("brisque={}", crate::support::root().join("assets/scorers/brisque").display());
    succeeds(score.args(["--scorer", "background", "--scorer", &brisque, "--out"]).arg(world.path("scored")));
    let scores = world.path("scored/scores.jsonl");
    let pair = |arguments: &[&str]| -> Value {
        let mut command = diffpref();
        succeeds(command.arg("pairs").arg(&scores).args(arguments).arg("--out").arg(world.path("out")));
        serde_json::from_str(std::fs::read_to_string(world.path("out/pairs.jsonl")).unwrap().trim()).unwrap()
    };
    let text = std::fs::read_to_string(&scores).unwrap();
    let distortions: Vec<f64> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["scores"]["brisque"]["distortion"].as_f64().unwrap())
        .collect();
    let [low, high] = if distortions[0] < distortions[1] { [0, 1] } else { [1, 0] };
    let files = ["fluent-emoji-house.png", "fluent-emoji-bicycle.png"];
    let wins = |row: &Value, place: usize| row["winner"].as_str().unwrap().ends_with(files[place]);
    let row = pair(&["--by", "brisque.distortion"]);
    assert!(wins(&row, low), "{row}");
    assert_eq!(row["scores"]["brisque.distortion"], json!([-distortions[low], -distortions[high]]));
    // An evaluation by brisque warns of these pairs; background has no weights to be recognised by.
    let brisque = crate::support::root().join("assets/scorers/brisque");
    let weights = diffpref::scorers::ScorerSpec { name: "brisque".into(), path: brisque }.weights().unwrap().unwrap();
    let hash = crate::support::sha256(&std::fs::read(weights).unwrap());
    let judges = |labels: Labels| -> Vec<(String, String)> {
        let found = labellers(&world.path("out/pairs.jsonl"), &labels).unwrap();
        found.into_iter().map(|labeller| (labeller.judge, labeller.weights_sha256)).collect()
    };
    let expected = [("brisque".to_string(), hash)];
    assert_eq!(judges(Labels::Given), expected);
    assert_eq!(judges(Labels::parse("score:brisque.distortion").unwrap()), expected);
    pair(&["--by", "background.darkness"]);
    assert!(judges(Labels::Given).is_empty());
    // Without scores.json higher is better, unless --lower says so.
    std::fs::remove_file(world.path("scored/scores.json")).unwrap();
    assert!(wins(&pair(&["--by", "brisque.distortion"]), high));
    assert!(wins(&pair(&["--by", "brisque.distortion", "--lower", "brisque.distortion"]), low));
}

#[test]
fn weights_follow_margins_and_have_the_mean_one() {
    let scored = single(&[&[0.1, 0.0], &[0.4, 0.0], &[1.0, 0.0]]);
    scored.summary(&["--margin-weight", "2"]);
    let rows = scored.rows("pairs.jsonl");
    let raw: Vec<f64> = rows.iter().map(|row| 1.0 / (1.0 + (-2.0 * row["margin"].as_f64().unwrap()).exp())).collect();
    let mean = raw.iter().sum::<f64>() / 3.0;
    for (row, raw) in rows.iter().zip(raw) {
        assert!((row["weight"].as_f64().unwrap() - raw / mean).abs() < 1e-12, "{row}");
    }
}

/// A second round: prompt 1 has new pictures.
fn second_round(scored: &Scored) -> String {
    let rows: String = [("1-0.png", 0.3), ("1-1.png", 0.9)]
        .iter()
        .map(|(name, number)| {
            let new = format!("new-{name}");
            std::fs::copy(scored.path(name), scored.path(&new)).unwrap();
            format!("{}\n", json!({"picture": new, "prompt": "prompt 1", "scores": {"a": {"x": number}}}))
        })
        .collect();
    write(&scored.path("second.jsonl"), &rows);
    scored.path("second.jsonl").display().to_string()
}

#[test]
fn prompts_with_the_worst_best_pictures_are_listed_for_a_next_round_and_keep_the_newest_pictures() {
    let scored = single(&[&[0.9, 0.2], &[0.4, 0.1], &[0.6, 0.3]]);
    let summary = scored.summary(&["--refresh", "0.3"]);
    let prompts = |rows: Vec<Value>| -> Vec<String> {
        rows.iter().map(|row| row["prompt"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!((&summary["refreshed"], prompts(scored.rows("refresh.jsonl"))), (&json!(1), vec!["prompt 1".into()]));
    let second = second_round(&scored);
    let summary = scored.summary(&[&second, "--newest", "--refresh", "0.3"]);
    assert_eq!((&summary["candidates"], prompts(scored.rows("refresh.jsonl"))), (&json!(6), vec!["prompt 2".into()]));
    let rows = scored.rows("pairs.jsonl");
    let row = rows.iter().find(|row| row["prompt"] == "prompt 1").unwrap();
    assert_eq!(
        (row["winner"].as_str(), row["loser"].as_str()),
        (Some("../data/new-1-1.png"), Some("../data/new-1-0.png"))
    );
    // Without --newest both rounds are candidates.
    assert_eq!(scored.summary(&[&second])["candidates"], 8);
}

#[test]
fn rows_of_all_rounds_are_drawn_beside_the_newest() {
    let scored = single(&[&[0.9, 0.2], &[0.4, 0.1], &[0.6, 0.3], &[0.2, 0.7]]);
    scored.summary(&[]);
    let first = scored.0.path("first.jsonl");
    let moved = std::fs::read_to_string(scored.0.path("out/pairs.jsonl")).unwrap();
    write(&first, &moved.replace("../data", "data"));
    let earlier = first.display().to_string();
    let summary = scored.summary(&["--replay", "0.5", "--earlier", &earlier]);
    assert_eq!((&summary["written"], &summary["replayed"]), (&json!(4), &json!(4)));
    let rows = scored.rows("pairs.jsonl");
    let id = |row: &Value| row["id"].as_str().unwrap().to_string();
    assert_eq!(rows[..4].iter().map(id).collect::<Vec<_>>(), ["0:0-1", "1:0-1", "2:0-1", "3:1-0"]);
    let drawn: Vec<String> = rows[4..].iter().map(id).collect();
    assert!(drawn.iter().all(|id| id.starts_with("replay-0-1:") || id.starts_with("replay-0-2:")), "{drawn:?}");
    for row in &rows {
        let picture = scored.0.path("out").join(row["winner"].as_str().unwrap());
        assert!(picture.is_file() && (row.get("replayed").is_some() == id(row).starts_with("replay")), "{row}");
    }
    // Replayed rows are not drawn again, and a training reads the file.
    std::fs::copy(scored.0.path("out/pairs.jsonl"), scored.0.path("second.jsonl")).unwrap();
    let text = std::fs::read_to_string(scored.0.path("second.jsonl")).unwrap();
    write(&scored.0.path("second.jsonl"), &text.replace("../data", "data"));
    let second = scored.0.path("second.jsonl").display().to_string();
    scored.summary(&["--replay", "0.75", "--earlier", &earlier, "--earlier", &second]);
    let drawn: Vec<String> = scored.rows("pairs.jsonl")[4..].iter().map(id).collect();
    assert_eq!(drawn.len(), 12);
    assert!(drawn.iter().all(|id| !id.ends_with("replay") && id.matches("replay").count() == 1), "{drawn:?}");
    assert_eq!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len(), 12);
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn scores_and_options_that_do_not_fit_are_refused_with_the_reason() {
    let scored = Scored::new(&[vec![vec![1.0, 2.0], vec![0.0, 1.0]], vec![vec![1.0, 2.0], vec![3.0, 1.0]]]);
    let mut messages = Messages::default();
    let mut refuse = |case: &str, arguments: &[&str], code: i32| {
        messages.add(case, &scored.0.refused(&mut scored.pairs(arguments), code));
    };
    refuse("a margin that no pair has", &["--min-margin", "50"], 1);
    refuse("an unknown measure", &["--by", "a.y"], 2);
    refuse("a measure named twice", &["--by", "a.x", "--by", "a.x:2"], 2);
    refuse("strength of two measures", &["--strength", "write"], 2);
    refuse("a list with a margin", &["--rule", "list", "--min-margin", "1"], 2);
    refuse("a negative margin", &["--min-margin=-1"], 2);
    refuse("a weight without slope", &["--margin-weight", "0"], 2);
    refuse("weights of a list", &["--margin-weight", "1", "--rule", "list"], 2);
    refuse("a share above 1", &["--refresh", "1.5"], 2);
    refuse("replay alone", &["--replay", "0.5"], 2);
    let earlier = scored.path("scores.jsonl").display().to_string();
    refuse("replay of everything", &["--replay", "1", "--earlier", &earlier], 2);
    refuse("replay of rows that are no pairs", &["--replay", "0.5", "--earlier", &earlier], 1);
    let row = |picture: &str, scores: &str| {
        format!("{{\"picture\": \"{picture}\", \"prompt\": \"p\", \"scores\": {scores}}}\n")
    };
    write(
        &scored.path("scores.jsonl"),
        &(row("0-0.png", "{\"a\": {\"x\": 1}}") + &row("0-1.png", "{\"b\": {\"y\": 1}}")),
    );
    refuse("scorers that rated other pictures", &[], 1);
    write(&scored.path("scores.jsonl"), &row("0-0.png", "{\"a\": {\"x\": 1}}"));
    refuse("one candidate only", &[], 1);
    refuse("a file twice", &[&scored.path("scores.jsonl").display().to_string()], 1);
    write(&scored.path("scores.jsonl"), &row("none.png", "{\"a\": {\"x\": 1}}"));
    refuse("a picture that is gone", &[], 1);
    write(&scored.path("scores.jsonl"), "{\"picture\": \"0-0.png\", \"scores\": {\"a\": {\"x\": 1}}}\n");
    refuse("a row without a prompt", &[], 1);
    write(&scored.path("scores.jsonl"), "{\"picture\": \"0-0.png\"}\n");
    refuse("a row without scores", &[], 1);
    write(&scored.path("scores.jsonl"), "\n");
    refuse("an empty file", &[], 1);
    insta::assert_snapshot!(messages);
}

/// Votes of three people on four pictures in the order of their numbers; "bad" turns two of them.
fn votes(scored: &Scored, extra: &[Value]) {
    let mut rows = String::new();
    let mut vote = |row: Value| rows += &format!("{row}\n");
    for (i, j) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        // Nearer pictures have fewer votes for the better one.
        for voter in 0..(j - i) {
            vote(
                json!({"prompt": "prompt 0", "winner": format!("0-{i}.png"), "loser": format!("0-{j}.png"), "voter": format!("v{voter}")}),
            );
        }
    }
    extra.iter().for_each(|row| vote(row.clone()));
    std::fs::write(scored.path("votes.jsonl"), rows).unwrap();
}

fn of_votes(scored: &Scored, arguments: &[&str]) -> Command {
    let mut command = diffpref();
    command.arg("pairs").arg("--votes").arg(scored.path("votes.jsonl")).arg("--out").arg(scored.0.path("out"));
    command.args(arguments);
    command
}

#[test]
fn votes_of_people_become_pairs_and_those_that_do_not_fit_are_counted_by_voter() {
    let scored = single(&[&[4.0, 3.0, 2.0, 1.0], &[1.0, 1.0, 1.0, 1.0]]);
    let turned = |winner: &str, loser: &str, label: Value| json!({"prompt": "prompt 0", "winner": winner, "loser": loser, "label": label, "voter": "bad"});
    let bad: Vec<Value> = (0..9).map(|_| turned("0-3.png", "0-0.png", Value::Null)).collect();
    let apart = [("1-0.png", "1-1.png"), ("1-2.png", "1-3.png")];
    let apart =
        apart.map(|(winner, loser)| json!({"prompt": "prompt 1", "winner": winner, "loser": loser, "label": "tie"}));
    votes(&scored, &[&bad[..], &apart[..]].concat());
    let said = String::from_utf8(of_votes(&scored, &["--rule", "all"]).assert().success().get_output().stdout.clone());
    let said = said.unwrap();
    assert!(said.contains("9 votes of bad do not fit the others") && said.contains("votes by 5 voters"), "{said}");
    assert!(said.contains("dropped: 1 prompts whose votes do not connect all candidates"), "{said}");
    assert!(said.contains("of triples of candidates form a cycle"), "{said}");
    let summary = json(&scored.0.path("out/pairs.json"));
    assert_eq!((&summary["combine"], &summary["votes"]["misfits"]), (&json!("robust"), &json!({"bad": 9})));
    assert!(summary["dropped"]["corrupted_vote"].as_u64().unwrap() >= 1, "{summary}");
    for row in scored.rows("pairs.jsonl") {
        let place = |key: &str| row[key].as_str().unwrap().rsplit('/').next().unwrap().to_string();
        assert!(place("winner") < place("loser"), "{row}");
    }
}

#[test]
fn files_of_votes_that_do_not_fit_are_refused() {
    let scored = single(&[&[2.0, 1.0]]);
    let refused = |row: &Value, arguments: &[&str], code: i32| {
        std::fs::write(scored.path("votes.jsonl"), format!("{row}\n")).unwrap();
        scored.0.refused(&mut of_votes(&scored, arguments), code)
    };
    let vote = |winner: &str, loser: &str| json!({"prompt": "a", "winner": winner, "loser": loser});
    let few = refused(&vote("0-0.png", "0-1.png"), &[], 1);
    assert!(few.contains("prompts with fewer than 4 candidates"), "{few}");
    let itself = refused(&vote("0-0.png", "0-0.png"), &[], 1);
    assert!(itself.contains("votes.jsonl:1: a vote on DIR/data/0-0.png against itself; remove the row"), "{itself}");
    let gone = refused(&vote("0-0.png", "none.png"), &[], 1);
    assert!(gone.contains("votes.jsonl:1: cannot find DIR/data/none.png"), "{gone}");
    let row = refused(&json!({"prompt": "a"}), &[], 1);
    assert!(
        row.contains("votes.jsonl:1: expected {\"prompt\": TEXT") && row.contains("missing field `winner`"),
        "{row}"
    );
    let rule = refused(&vote("0-0.png", "0-1.png"), &["--combine", "borda"], 2);
    assert!(rule.contains("--votes are ranked by --combine robust alone"), "{rule}");
}
