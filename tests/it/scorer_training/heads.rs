//! Every head trains, is written, and is opened as a scorer.

use super::Judged;
use crate::support::each::one_test_each;
use crate::support::{diffpref, golden, json, metrics, number, root, succeeds, tensors};
use serde_json::Value;

fn config(method: &str) -> &'static str {
    match method {
        "hpsv2" => "labels = \"soft\"",
        "pal" => "width = 8\nuser_rate = 10.0\nscale_rate = 10.0",
        _ => "",
    }
}

fn trains_and_is_opened(method: &str) {
    let world = Judged::new();
    world.config(method, config(method));
    // Two sets that contradict each other bring whole towers to a standstill within a step.
    let sets: &[&str] = if method == "more" { &["model.tune=head"] } else { &[] };
    succeeds(&mut world.train_with(sets));
    let (run, last) = (world.path("run"), world.path("run/final"));
    let lines = metrics(&run);
    assert_eq!(lines.len(), 6);
    assert!(lines.iter().all(|line| number(line, "grad_norm") > 0.0 && number(line, "loss").is_finite()));
    let saved = json(&last.join("scorer.json"));
    let accuracy = &saved["figures"]["accuracy"];
    assert!(number(accuracy, "lo") <= number(accuracy, "mean") && number(accuracy, "mean") <= number(accuracy, "hi"));
    assert!(number(&saved["figures"], "ece") < 0.6);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains(&format!("Scorer trained with {method}")) && page.contains("<svg"));
    if method == "gpm" {
        return compares(&world);
    }
    let (bright, dark) = world.scored("trained", &last);
    let columns = bright.as_object().unwrap();
    assert!(columns.values().all(|number| number.as_f64().unwrap().is_finite()));
    assert_ne!(bright, dark);
    let expected: &[&str] = match method {
        "uncertainty" => &["mu", "sigma"],
        "dimensions" => &["bright", "dark"],
        "pal" | "lore" => &["dim", "lit"],
        other => &[other],
    };
    assert_eq!(columns.keys().collect::<Vec<_>>(), expected);
}

/// The general preference model has no rating, and compares.
fn compares(world: &Judged) {
    let input = world.path("three.csv");
    std::fs::write(&input, "picture,prompt\nbright-0-0.png,a dog\ndark-0-0.png,a dog\nbright-1-0.png,a dog\n").unwrap();
    let scorer = format!("trained={}", world.path("run/final").display());
    let mut command = diffpref();
    command.env("XDG_CACHE_HOME", world.path("cache")).arg("score").arg(&input).args([
        "--device",
        "cpu",
        "--compare",
        &scorer,
    ]);
    command.arg("--out").arg(world.path("compared"));
    command.assert().success();
    let text = std::fs::read_to_string(world.path("compared/scores.jsonl")).unwrap();
    let share =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["scores"]["trained"]["win_share"].as_f64().unwrap();
    assert!((text.lines().map(share).sum::<f64>() - 1.5).abs() < 1e-9);
}

one_test_each! {
    a_head_trains_and_is_opened: super::trains_and_is_opened;
    pickscore hpsv2 uncertainty btt ranklist gpm dimensions pal lore dprm disagreement_margin more
}

#[test]
fn data_sets_that_contradict_each_other_share_every_step() {
    let world = Judged::new();
    world.config("more", "");
    succeeds(&mut world.train_with(&["model.tune=towers"]));
    for line in metrics(&world.path("run")) {
        let shares: Vec<f64> = serde_json::from_value(line["lambda"].clone()).unwrap();
        assert!(shares.len() == 2 && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{line}");
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{line}");
    }
    let saved = json(&world.path("run/final/scorer.json"));
    assert_eq!(saved["data_sha256"].as_array().unwrap().len(), 2);
    let plan = succeeds_with_stdout(&mut world.train(&["--dry-run"]));
    assert!(plan.contains("more"), "{plan}");
}

fn succeeds_with_stdout(command: &mut assert_cmd::Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

#[test]
fn a_result_of_pickscore_is_what_the_scorers_on_clip_open() {
    let world = Judged::new();
    world.config("pickscore", "");
    succeeds(&mut world.train(&[]));
    let last = world.path("run/final");
    let (bright, _) = world.scored("pickscore", &last);
    let (own, _) = world.scored("trained", &last);
    assert!((number(&bright, "pickscore") - number(&own, "pickscore")).abs() < 1e-4);
    let (before, _) = world.scored("pickscore", &golden("scorers/clip"));
    assert_ne!(before, bright);
    world.scored("clip", &last);
}

#[test]
fn a_brighter_picture_wins_after_training_and_before_it_does_not_reliably() {
    let world = Judged::new();
    world.rewrite(|_, row| {
        // Everybody prefers the bright one.
        if row["winner"].as_str().unwrap().starts_with("dark") {
            let (winner, loser) = (row["loser"].take(), row["winner"].take());
            (row["winner"], row["loser"]) = (winner, loser);
        }
        row.as_object_mut().unwrap().remove("label");
        row.as_object_mut().unwrap().remove("votes");
    });
    succeeds(&mut world.train_with(&["train.steps=40"]));
    let figures = &json(&world.path("run/final/scorer.json"))["figures"];
    assert!(number(&figures["accuracy"], "mean") > 0.95, "{figures}");
    let (bright, dark) = world.scored("pickscore", &world.path("run/final"));
    assert!(number(&bright, "pickscore") > number(&dark, "pickscore"));
}

#[test]
fn the_layout_of_open_clip_is_kept_and_only_the_last_blocks_change() {
    let world = Judged::new();
    world.config("hpsv2", "");
    let base = golden("scorers/hpsv2");
    let path = format!("model.path=\"{}\"", base.display());
    let sets = [path.as_str(), "model.tune=blocks", "model.image_blocks=1", "data.ties=drop"];
    succeeds(&mut world.train_with(&sets));
    let (before, after) =
        (tensors(&base.join("model.safetensors")), tensors(&world.path("run/final/model.safetensors")));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let changed: Vec<&String> = before.keys().filter(|name| before[*name] != after[*name]).collect();
    let late = |name: &&String| {
        name.starts_with("visual.transformer.resblocks.1.")
            || ["visual.ln_post", "visual.proj", "logit_scale"].iter().any(|part| name.starts_with(part))
    };
    assert!(!changed.is_empty() && changed.iter().all(late), "{changed:?}");
    assert!(number(&json(&world.path("run/final/scorer.json"))["figures"], "ties") == 0.0);
    world.scored("hpsv2", &world.path("run/final"));
}

#[test]
fn users_learn_opposite_tastes_and_a_new_user_changes_nobody_else() {
    let world = Judged::new();
    world.config("lore", "");
    succeeds(&mut world.train_with(&["train.steps=200", "optim.lr=1e-1"]));
    let (bright, dark) = world.scored("trained", &world.path("run/final"));
    assert!(number(&bright, "lit") > number(&dark, "lit"), "{bright} {dark}");
    assert!(number(&bright, "dim") < number(&dark, "dim"), "{bright} {dark}");
    world.rewrite(|_, row| row["user"] = "new".into());
    let (base, out) = (world.path("run/final"), world.path("more"));
    let path = format!("model.path=\"{}\"", base.display());
    let out_set = format!("train.out=\"{}\"", out.display());
    succeeds(&mut world.train_with(&[&path, &out_set, "model.new_users=true", "optim.lr=1e-1"]));
    let (more, _) = world.scored("trained", &out.join("final"));
    assert_eq!(more.as_object().unwrap().keys().collect::<Vec<_>>(), ["dim", "lit", "new"]);
    assert_eq!((&more["dim"], &more["lit"]), (&bright["dim"], &bright["lit"]));
}

#[test]
fn members_measure_the_strength_of_pairs_and_their_mean_is_a_scorer() {
    let world = Judged::new();
    succeeds(&mut world.train_with(&["train.members=3"]));
    let text = std::fs::read_to_string(world.path("run/strength.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 48);
    assert!(
        rows.iter().all(|row| number(&row["strength"], "std") > 0.0 && number(&row["strength"], "mean").is_finite())
    );
    assert_eq!(rows.iter().filter(|row| row["label"] == "tie").count(), 8);
    let weights = |folder: &str| tensors(&world.path(&format!("run/{folder}/model.safetensors")));
    let members = ["member-1/final", "member-2/final", "member-3/final"].map(weights);
    let mean = weights("final");
    for (name, values) in &mean {
        for (i, value) in values.iter().enumerate() {
            let expected = members.iter().map(|member| member[name][i]).sum::<f64>() / 3.0;
            assert!((value - expected).abs() < 1e-5 * expected.abs().max(1.0), "{name}: {value}, expected {expected}");
        }
    }
    world.scored("pickscore", &world.path("run/final"));
}

#[test]
fn a_clip_is_trained_from_drawn_weights_on_the_drawings_of_the_test_bed() {
    let world = Judged::new();
    let recipe = root().join("configs/scorer-testbed-clip.toml");
    let mut command = diffpref();
    command.current_dir(root()).arg("train-scorer").arg(recipe);
    let out = format!("train.out=\"{}\"", world.path("clip").display());
    command.args(["--set", &out, "--set", "train.steps=2", "--set", "train.micro_batch=12"]);
    succeeds(&mut command);
    let lines = metrics(&world.path("clip"));
    assert_eq!(lines.len(), 2);
    // Chance is 12 captions.
    assert!((number(&lines[0], "loss") - 12f64.ln()).abs() < 0.7, "{}", lines[0]);
    assert!(number(&lines[1]["validation"], "retrieval") <= 1.0);
    world.scored("clip", &world.path("clip/final"));
}
