//! Models on pairs, without pictures: the real binary, on the tiny model of golden/generate.

use crate::support::{World, diffpref, files, json, metrics, model, number, succeeds};
use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// `eval --pairs` of models in the world's cache, into its folder `eval`.
fn eval(world: &World, models: &[(&str, &Path)], arguments: &[&str]) -> Command {
    let mut command = diffpref();
    command.args(["eval", "--device", "cpu", "--pairs"]).arg(world.pairs()).arg("--out").arg(world.path("eval"));
    command.env("XDG_CACHE_HOME", world.path("cache"));
    for (name, path) in models {
        command.arg("--model").arg(format!("{name}={}", path.display()));
    }
    command.args(arguments);
    command
}

fn rows(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("pairs.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A copy of the tiny model with another value of `key` in a configuration.
fn other_model(world: &World, file: &str, from: &str, to: &str) -> PathBuf {
    let copy = world.path("other");
    for name in files(&model()).keys() {
        std::fs::create_dir_all(copy.join(name).parent().unwrap()).unwrap();
        std::fs::copy(model().join(name), copy.join(name)).unwrap();
    }
    let text = std::fs::read_to_string(copy.join(file)).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(copy.join(file), text.replace(from, to)).unwrap();
    copy
}

#[test]
fn a_run_has_on_its_held_out_pairs_the_numbers_of_its_own_validation() {
    let world = World::new(16);
    let run = world.trained("run", &["validate.every=3", "validate.draws=4"]);
    let mut command = diffpref();
    command.args(["eval", "--device", "cpu", "--json", "--run"]).arg(&run).arg("--pairs").arg(world.pairs());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("pairs of its held-out prompts count (validate.fraction = 0.25)"), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found, json(&run.join("eval/pairs.json")));
    let (before, after) = (&found["models"][0], &found["models"][1]);
    assert!(before.get("against_first").is_none());
    let line = metrics(&run).pop().unwrap();
    for (key, figure) in [("val_implicit_acc", "implicit_accuracy"), ("val_margin", "margin")] {
        let (got, expected) = (number(&after["against_first"][figure], "mean"), number(&line, key));
        assert!((got - expected).abs() <= 1e-4 * expected.abs().max(1e-4), "{figure}: {got}, {key} {expected}");
    }
    let rows = rows(&run.join("eval"));
    assert_eq!(rows.len() as u64, found["pairs"].as_u64().unwrap());
    assert!(!rows.is_empty() && rows.len() < 16, "{} of 16 pairs are held out", rows.len());
    let u_ref = |row: &Value| {
        let error = |side: usize| row["models"][0]["errors"][side].as_f64().unwrap();
        -2500.0 * (error(0) - error(1))
    };
    assert!(rows.iter().all(|row| (u_ref(row) - row["u_ref"].as_f64().unwrap()).abs() < 1e-6));
    let right = |row: &&Value| row["models"][1]["errors"][0].as_f64() < row["models"][1]["errors"][1].as_f64();
    let share = rows.iter().filter(right).count() as f64 / rows.len() as f64;
    assert!((share - number(&after["ranking_accuracy"], "mean")).abs() < 1e-12);
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("On pairs, without pictures") && report.contains("implicit accuracy against before"));
    assert_eq!(report.matches("<tr class=\"pair\">").count(), 2 * rows.len());
    assert_eq!(json(&run.join("report.json"))["pairs"], found);
}

#[test]
fn one_model_is_ranked_alone_and_a_second_call_says_the_same() {
    let world = World::new(3);
    let base = model();
    let mut command = eval(&world, &[("base", &base)], &[]);
    let first = command.assert().success().get_output().stdout.clone();
    let text = String::from_utf8(first.clone()).unwrap();
    assert!(text.contains("3 pairs of 3 prompts at 4 noise levels each, beta 5000"), "{text}");
    assert!(text.contains("ranking accuracy") && !text.contains("implicit accuracy"), "{text}");
    let found = json(&world.path("eval/pairs.json"));
    let figures = &found["models"][0];
    let worst: Vec<f64> =
        figures["worst"].as_array().unwrap().iter().map(|pair| pair["ches"].as_f64().unwrap()).collect();
    assert!(worst.len() == 3 && worst.is_sorted_by(|a, b| a >= b), "{worst:?}");
    assert_eq!(figures["ches_last_layer"]["to"].as_f64(), Some(worst[0]));
    assert_ne!(figures["ches_last_layer"]["to"], figures["ches_output"]["to"]);
    assert_eq!(eval(&world, &[("base", &base)], &[]).assert().success().get_output().stdout, first);
}

#[test]
fn a_model_against_itself_learns_nothing() {
    let world = World::new(3);
    let base = model();
    succeeds(&mut eval(&world, &[("base", &base), ("same", &base)], &["--vote-share", "0.6", "--draws", "5"]));
    let found = json(&world.path("eval/pairs.json"));
    let learnt = &found["models"][1]["against_first"];
    assert_eq!((number(&learnt["implicit_accuracy"], "mean"), number(&learnt["margin"], "mean")), (0.5, 0.0));
    assert_eq!(learnt["flipped"], 0);
    assert_eq!((&found["draws"], &found["vote_share"]), (&5.into(), &0.6.into()));
    assert_eq!(found["models"][0]["ches_output"], found["models"][1]["ches_output"]);
}

#[test]
fn pairs_with_a_picture_that_cannot_be_read_do_not_count() {
    let world = World::new(3);
    std::fs::write(world.path("data/l1.png"), "no picture").unwrap();
    let base = model();
    let said = succeeds(&mut eval(&world, &[("base", &base)], &[]));
    assert!(said.contains("l1.png: ") && said.contains("its pairs do not count"), "{said}");
    let found = json(&world.path("eval/pairs.json"));
    assert_eq!((&found["pairs"], found["unreadable"].as_array().unwrap().len()), (&2.into(), 1));
    assert_eq!(rows(&world.path("eval")).iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), ["p0", "p2"]);
}

#[test]
fn wrong_options_and_models_that_cannot_be_compared_are_refused() {
    let world = World::new(2);
    let base = model();
    let refused = |arguments: &[&str], code: i32| {
        let said = world.refused(&mut eval(&world, &[("base", &base)], arguments), code);
        assert!(!world.path("eval").exists(), "{said}");
        said
    };
    assert!(refused(&["--draws", "3"], 2).contains("--draws 3: expected at least 4"));
    assert!(refused(&["--beta", "0"], 2).contains("--beta 0: expected a number above 0"));
    assert!(refused(&["--vote-share", "1"], 2).contains("--vote-share 1: expected a number above 0.5 and below 1"));
    assert!(refused(&["--model", "base=elsewhere"], 2).contains("two models have this name"));
    let lists = "{\"prompt\": \"a\", \"images\": [\"w0.png\", \"l0.png\"], \"ranks\": [1, 2]}\n";
    std::fs::write(world.pairs(), lists).unwrap();
    assert!(refused(&[], 1).contains("pairs.jsonl holds lists, expected pairs"));
}

#[test]
fn models_with_another_noise_schedule_are_not_compared() {
    let world = World::new(1);
    let (base, other) = (model(), other_model(&world, "scheduler/scheduler_config.json", "0.012", "0.014"));
    let said = world.refused(&mut eval(&world, &[("base", &base), ("other", &other)], &[]), 2);
    let expected = "the models \"base\" and \"other\" differ in their noise schedule: their errors cannot be compared";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_run_that_held_nothing_out_needs_other_pairs() {
    let (world, other) = (World::new(4), World::new(2));
    let held_out = format!("validate.path={:?}", other.pairs().display().to_string());
    let run = world.trained("run", &["train.steps=1", &held_out]);
    let mut command = diffpref();
    command.args(["eval", "--run"]).arg(&run).arg("--pairs").arg(world.pairs());
    let said = world.refused(&mut command, 1);
    assert!(said.contains("no pair belongs to a prompt that the run held out; give other pairs"), "{said}");
}
