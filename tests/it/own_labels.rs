//! `diffpref pairs --label self:MODEL`: a model's own rewards, their agreement with another ranking, and refusals.

use crate::support::{Messages, World, diffpref, files, json, lora, model, succeeds};
use assert_cmd::Command;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Three prompts with two pictures each.
fn world() -> World {
    let world = World::new(3);
    let row = |i: usize, side: &str| json!({"picture": format!("data/{side}{i}.png"), "prompt": format!("prompt {i}")});
    let rows: String = (0..3).flat_map(|i| [row(i, "w"), row(i, "l")]).map(|row| format!("{row}\n")).collect();
    std::fs::write(world.path("pictures.jsonl"), rows).unwrap();
    world
}

fn pairs(world: &World, arguments: &[&str]) -> Command {
    let mut command = diffpref();
    command.env("XDG_CACHE_HOME", world.path("cache")).arg("pairs").arg(world.path("pictures.jsonl"));
    command.args(arguments).arg("--out").arg(world.path("out"));
    command
}

fn own(of: &str) -> String {
    format!("self:{of}")
}

fn with_lora() -> String {
    format!("{}+{}", model().display(), lora().display())
}

fn rows(world: &World, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(world.path(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Mean errors of both pictures of every prompt by `eval --pairs`, of the model alone and with the LoRA. Pairs with the
/// prompt as their id have the noise of labels.
fn errors(world: &World, prompt: impl Fn(usize) -> String) -> Vec<[[f64; 2]; 2]> {
    let row = |i: usize| json!({"id": format!("prompt {i}"), "prompt": prompt(i), "winner": format!("w{i}.png"), "loser": format!("l{i}.png")});
    std::fs::write(world.pairs(), (0..3).map(|i| format!("{}\n", row(i))).collect::<String>()).unwrap();
    let mut command = diffpref();
    command.env("XDG_CACHE_HOME", world.path("cache")).args(["eval", "--draws", "10", "--pairs"]).arg(world.pairs());
    command.arg("--model").arg(format!("base={}", model().display()));
    command.arg("--model").arg(format!("tuned={}", with_lora())).arg("--out").arg(world.path("eval"));
    succeeds(&mut command);
    let of = |row: &Value, model: usize| serde_json::from_value(row["models"][model]["errors"].clone()).unwrap();
    rows(world, "eval/pairs.jsonl").iter().map(|row| [of(row, 0), of(row, 1)]).collect()
}

/// The columns [winner's, loser's] of the labels, turned to [w's, l's].
fn labelled(world: &World, measure: &str) -> Vec<[f64; 2]> {
    let of = |row: &Value| {
        let numbers: [f64; 2] = serde_json::from_value(row["scores"][measure].clone()).unwrap();
        let w_wins = row["winner"].as_str().unwrap().contains("/w");
        assert!(numbers[0] >= numbers[1], "{row}");
        if w_wins { numbers } else { [numbers[1], numbers[0]] }
    };
    rows(world, "out/pairs.jsonl").iter().map(of).collect()
}

#[test]
fn rewards_are_those_that_errors_of_an_evaluation_on_pairs_give() {
    let world = world();
    succeeds(&mut pairs(&world, &["--label", &own(&with_lora())]));
    let expected = errors(&world, |i| format!("prompt {i}"));
    for (found, [base, tuned]) in labelled(&world, "self.implicit_reward").iter().zip(&expected) {
        for side in 0..2 {
            let expected = 2500.0 * (base[side] - tuned[side]);
            assert!((found[side] - expected).abs() < 1e-3 * expected.abs().max(1.0), "{found:?}, {expected}");
        }
    }
    let summary = json(&world.path("out/pairs.json"));
    assert_eq!(summary["labelled"]["by"]["ranking"], "implicit_reward");
    assert_eq!(summary["labelled"]["reference"], json!(model()));

    // The model alone: e(x; "") - e(x; c).
    let said = pairs(&world, &["--label", &own(&model().display().to_string())]).assert().success();
    let said = String::from_utf8(said.get_output().stdout.clone()).unwrap();
    assert!(said.contains("ranked by the diffusion classifier of") && said.contains("judge the result by"), "{said}");
    let without = errors(&world, |_| String::new());
    for ((found, [with, _]), [without, _]) in
        labelled(&world, "self.diffusion_classifier").iter().zip(&expected).zip(&without)
    {
        for side in 0..2 {
            let expected = without[side] - with[side];
            assert!((found[side] - expected).abs() < 1e-6, "{found:?}, {expected}");
        }
    }
}

#[test]
fn agreement_with_another_ranking_is_a_column_of_every_pair() {
    let world = world();
    let tuned = own(&with_lora());
    let summary = |arguments: &[&str]| {
        succeeds(&mut pairs(&world, &[&["--label", tuned.as_str()], arguments].concat()));
        json(&world.path("out/pairs.json"))
    };
    // A model agrees with itself.
    let same = summary(&["--consistency-with", &with_lora()]);
    assert_eq!(same["labelled"]["consistency"]["mean"], 1.0);
    assert_eq!(rows(&world, "out/pairs.jsonl")[0]["scores"]["confidence"], json!([1.0, 0.0]));
    // The start model has no reward of its own.
    let base = model().display().to_string();
    let other = summary(&["--consistency-with", &base, "--consistency", "best_and_worst"]);
    let agreed = &other["labelled"]["consistency"];
    assert_eq!(
        (&agreed["with"]["ranking"], &agreed["measure"]),
        (&json!("diffusion_classifier"), &json!("best_and_worst"))
    );
    let rows_of = rows(&world, "out/pairs.jsonl");
    let confidence = |row: &Value, place: usize| row["scores"]["confidence"][place].as_f64().unwrap();
    assert!(rows_of.iter().all(|row| [0.0, 1.0].contains(&confidence(row, 0))));
    let mean = rows_of.iter().map(|row| confidence(row, 0)).sum::<f64>() / 3.0;
    assert!((agreed["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    let shared = [mean, 1.0 - mean];
    assert!(rows_of.iter().all(|row| row["scores"]["mean_confidence"] == json!(shared)), "{rows_of:?}");
    let halves = summary(&["--consistency-with", "halves", "--draws", "12"]);
    assert_eq!((&halves["labelled"]["draws"], halves["labelled"]["consistency"].get("with")), (&json!(12), None));
}

#[test]
fn a_run_is_labelled_against_the_model_that_it_started_from() {
    let world = world();
    let run = world.trained("run", &["train.steps=1"]);
    succeeds(&mut pairs(&world, &["--label", &own(&run.display().to_string())]));
    let labelled = &json(&world.path("out/pairs.json"))["labelled"];
    assert_eq!((&labelled["reference"], &labelled["resolution"]), (&json!(model()), &json!(16)));
    assert!(labelled["by"]["model"].as_str().unwrap().contains("run/final/pytorch_lora_weights.safetensors"));
}

/// A copy of the tiny model with another noise schedule.
fn other_schedule(world: &World) -> PathBuf {
    let copy = world.path("other");
    for name in files(&model()).keys() {
        std::fs::create_dir_all(copy.join(name).parent().unwrap()).unwrap();
        std::fs::copy(model().join(name), copy.join(name)).unwrap();
    }
    let file = copy.join("scheduler/scheduler_config.json");
    let mut config = json(&file);
    config["beta_end"] = json!(0.02);
    std::fs::write(file, config.to_string()).unwrap();
    copy
}

#[test]
fn what_a_model_cannot_label_is_refused_with_the_reason() {
    let world = world();
    let mut messages = Messages::default();
    let base = model().display().to_string();
    let (tuned, alone) = (own(&with_lora()), own(&base));
    let mut refuse = |case: &str, arguments: &[&str], code: i32| {
        let said = world.refused(&mut pairs(&world, arguments), code);
        // Lines of progress have times.
        let error = said.lines().skip_while(|line| !line.starts_with("error")).collect::<Vec<_>>().join("\n");
        messages.add(case, &error);
    };
    refuse("another labeller", &["--label", "nima"], 2);
    refuse("no model", &["--label", "self:"], 2);
    refuse("few draws", &["--label", &tuned, "--draws", "4"], 2);
    refuse("no beta", &["--label", &tuned, "--beta", "0"], 2);
    refuse("measures", &["--label", &tuned, "--by", "a.x"], 2);
    refuse("a model that is not there", &["--label", "self:none"], 1);
    refuse("a reference without labels by a model", &["--reference", &base], 2);
    let other = other_schedule(&world).display().to_string();
    refuse("a reference with another noise schedule", &["--label", &tuned, "--reference", &other], 2);
    let write = |text: &str| std::fs::write(world.path("pictures.jsonl"), text).unwrap();
    std::fs::write(world.path("data/w0.png"), "no picture").unwrap();
    refuse("a picture that cannot be read", &["--label", &alone], 1);
    write("{\"picture\": \"data/w1.png\"}\n");
    refuse("a row without a prompt", &["--label", &alone], 1);
    insta::assert_snapshot!(messages);
    assert!(!Path::new(&world.path("out/pairs.jsonl")).exists());
}
