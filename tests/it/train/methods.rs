//! Runs of the methods beyond dpo and sft, with the real binary: what their metrics hold, that batch statistics run over
//! whole steps, and that what they remember survives a kill.

use crate::support::each::{one_test_each, one_test_per_method_of_errors};
use crate::support::{World, distance, files, metrics, succeeds, tensors, timeless};
use diffpref::objectives::{Needs, REGISTRY};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Methods whose defaults take labelled images.
const LABELLED: [&str; 2] = ["kto", "pmpo"];

/// The pictures of a world of pairs in other rows.
fn rows(world: &World, name: &str, row: impl Fn(usize) -> Value, n: usize) -> PathBuf {
    let path = world.path("data").join(name);
    let text: String = (0..n).map(|i| format!("{}\n", row(i))).collect();
    std::fs::write(&path, text).unwrap();
    path
}

/// Pairs with two scores, weights, and every fourth a tie where `ties`.
fn scored(world: &World, n: usize, ties: bool) -> PathBuf {
    let row = |i: usize| {
        let mut row = json!({
            "id": format!("p{i}"), "prompt": format!("a drawing of number {i}"), "winner": format!("w{i}.png"),
            "loser": format!("l{i}.png"), "weight": 0.25 + 0.25 * (i % 3) as f64,
            "scores": {"a": [0.3 + 0.01 * i as f64, 0.3 + 0.02 * (i % 4) as f64], "b": [0.5, 0.4], "c": [0.1, 0.2],
                "confidence": [0.9 - 0.05 * i as f64, 0.1 + 0.05 * i as f64], "mean_confidence": [0.7, 0.3]},
        });
        if ties && i.is_multiple_of(4) {
            row["label"] = json!("tie");
        }
        row
    };
    rows(world, "scored.jsonl", row, n)
}

/// Lists of four images with ranks.
fn lists(world: &World, n: usize) -> PathBuf {
    let image = |i: usize, k: usize| format!("{}{}.png", if k.is_multiple_of(2) { "w" } else { "l" }, (i + k / 2) % n);
    let row = |i: usize| {
        let images: Vec<String> = (0..4).map(|k| image(i, k)).collect();
        json!({"id": format!("s{i}"), "prompt": format!("a list of number {i}"), "images": images, "ranks": [2, 1, 3, 3]})
    };
    rows(world, "lists.jsonl", row, n)
}

fn labels(world: &World, n: usize) -> PathBuf {
    let row = |i: usize| {
        let side = if i.is_multiple_of(3) { "l" } else { "w" };
        json!({"id": format!("i{i}"), "prompt": format!("image {i}"), "image": format!("{side}{i}.png"), "label": side == "w"})
    };
    rows(world, "labels.jsonl", row, n)
}

/// `method.name` and where its data lies, for a world of 16.
fn data_of(world: &World, name: &str) -> Vec<String> {
    let path = match name {
        "rankdpo" | "lipo_lambda" | "plackett_luce" | "mpo" => lists(world, 16),
        name if LABELLED.contains(&name) => labels(world, 16),
        _ => scored(world, 16, name == "todo"),
    };
    let mut sets = vec![format!("method.name={name}"), format!("data.path={:?}", path.display().to_string())];
    match name {
        "smpo" => sets.push("data.labels=score:a".into()),
        "mappo" | "odpo" => sets.push("method.scorer=a".into()),
        "todo" => sets.push("data.ties=keep".into()),
        // Eight items per step, and one block of the four.
        "aot" | "aot_unpaired" => sets.push("train.grad_accum=4".into()),
        "relative_po" => sets.push("method.block=4".into()),
        _ => {}
    }
    sets
}

fn trained(world: &World, name: &str, folder: &str, sets: &[&str]) -> PathBuf {
    let data = data_of(world, name);
    let all: Vec<&str> = data.iter().map(String::as_str).chain(sets.iter().copied()).collect();
    world.trained(folder, &all)
}

fn assert_trains_and_validates(name: &str) {
    let world = World::new(16);
    let run =
        trained(&world, name, name, &["train.steps=2", "optim.lr=1e-3", "validate.every=2", "validate.max_pairs=2"]);
    let lines = metrics(&run);
    let last = &lines[1];
    assert!(last["loss"].as_f64().unwrap().is_finite(), "{name}");
    assert!(last["grad_norm"].as_f64().unwrap() > 0.0, "{name} has no gradient");
    assert!(last["val_loss"].is_number(), "{name}");
    let pairs = !LABELLED.contains(&name);
    assert_eq!(last.get("val_margin").is_some(), pairs, "{name}");
    let compared = pairs && name != "mapo" && name != "sft";
    for key in ["margin", "implicit_acc", "gradient_factor", "negative_margin", "margin_by_t"] {
        assert_eq!(last.get(key).is_some(), compared, "{name} {key}");
    }
    assert_eq!(last.get("beta").is_some(), !["mapo", "sft", "pmpo"].contains(&name), "{name}");
    assert!(run.join("final/pytorch_lora_weights.safetensors").exists(), "{name}");
}

one_test_per_method_of_errors!(trains_and_validates: super::assert_trains_and_validates);

#[test]
fn no_method_of_errors_is_left_out() {
    let samples = |needs: Needs| needs.rollouts.is_some() || needs.truncated.is_some();
    let of_errors = REGISTRY.iter().filter(|entry| !samples(entry.needs())).map(|entry| entry.name);
    let tested: BTreeSet<&str> = trains_and_validates::NAMES.iter().copied().collect();
    assert_eq!(tested, of_errors.collect());
}

fn assert_runs_over_the_whole_step(name: &str) {
    let world = World::new(16);
    let key = match name {
        "kto" => "kl",
        "bco" => "bco_threshold",
        "wpo" => "wpo_mean",
        "uapo" => "uapo_anchor",
        "focalpo" => "weight_mean",
        _ => "loss",
    };
    let [most, few] = if name.starts_with("aot") { [8, 2] } else { [4, 1] };
    let run = |folder: &str, micro: &str, accum: &str| {
        let sets = ["model.dtype=float64", "train.steps=3", "optim.lr=1e-3", micro, accum];
        trained(&world, name, &format!("{name}-{folder}"), &sets)
    };
    let whole = run("whole", &format!("train.micro_batch={most}"), "train.grad_accum=1");
    let parts = run("parts", &format!("train.micro_batch={few}"), "train.grad_accum=4");
    for (a, b) in metrics(&whole).iter().zip(&metrics(&parts)) {
        for key in [key, "loss", "grad_norm"] {
            let (a, b) = (a[key].as_f64().unwrap(), b[key].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1e-3), "{name} {key}: {a} {b}");
        }
    }
    let weights = |run: &Path| tensors(&run.join("final/pytorch_lora_weights.safetensors"));
    assert!(distance(&weights(&whole), &weights(&parts)) < 1e-9, "{name}");
}

one_test_each!(statistics_and_weights_run_over_the_whole_step: super::assert_runs_over_the_whole_step; kto bco wpo focalpo aot aot_unpaired relative_po uapo);

/// Images one after the other: the same errors and gradients, up to the rounding of other batch sizes.
fn assert_images_can_be_parted(name: &str) {
    let world = World::new(16);
    let run = |folder: &str, split: &str| {
        let plugged: &[&str] =
            if name == "dpo" { &["safeguard.name=sdpo", "reference.kind=updated", "reference.every=1"] } else { &[] };
        let sets = [
            "model.dtype=float64",
            "train.steps=3",
            "optim.lr=1e-3",
            "train.micro_batch=2",
            "train.grad_accum=2",
            split,
        ];
        trained(&world, name, folder, &[&sets[..], plugged].concat())
    };
    let (joint, parted) = (run("joint", "train.pair_split=off"), run("parted", "train.pair_split=on"));
    for (a, b) in metrics(&joint).iter().zip(&metrics(&parted)) {
        for key in ["loss", "grad_norm", "val_loss"] {
            let Some((a, b)) = a[key].as_f64().zip(b[key].as_f64()) else { continue };
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1e-3), "{name} {key}: {a} {b}");
        }
    }
    let weights = |run: &Path| tensors(&run.join("final/pytorch_lora_weights.safetensors"));
    let off = distance(&weights(&parted), &weights(&joint));
    assert!(off < 1e-9, "{name}: {off:e}");
}

one_test_each!(images_can_be_parted: super::assert_images_can_be_parted; dpo inpo bco rankdpo);

/// beta = "auto" of a step must not depend on how it is split.
#[test]
fn the_adaptive_beta_is_that_of_whole_steps() {
    let world = World::new(16);
    let betas = |folder: &str, micro: &str, accum: &str| -> Vec<f64> {
        let sets = ["model.dtype=float64", "method.beta=auto", "train.steps=14", "optim.lr=1e-3", micro, accum];
        let run = trained(&world, "dpo", folder, &sets);
        metrics(&run).iter().map(|line| line["beta"].as_f64().unwrap()).collect()
    };
    let whole = betas("whole", "train.micro_batch=4", "train.grad_accum=1");
    let parts = betas("parts", "train.micro_batch=1", "train.grad_accum=4");
    assert_ne!(whole[13], whole[0], "beta never moved");
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-6 * a), "{whole:?} {parts:?}");
}

#[test]
fn npo_learns_what_dpo_unlearns() {
    let world = World::new(16);
    let line = |name: &str| {
        let run = trained(&world, name, name, &["train.steps=1", "method.beta=1000", "method.prompt_dropout=0"]);
        metrics(&run).remove(0)
    };
    let (dpo, npo) = (line("dpo"), line("npo"));
    // The losers of the data are npo's winners; draws of an image go with its place as trained.
    assert_ne!(dpo["model_mse_w"], npo["model_mse_w"]);
    assert!((dpo["loss"].as_f64().unwrap() - npo["loss"].as_f64().unwrap()).abs() < 1e-6, "both start at ln 2");
}

#[test]
fn the_safeguard_scales_the_loser_alone_and_says_by_how_much() {
    let world = World::new(16);
    let run = |folder: &str, sets: &[&str]| {
        trained(&world, "dpo", folder, &[&["train.steps=2", "optim.lr=1e-3"], sets].concat())
    };
    let (plain, safe) = (run("plain", &[]), run("safe", &["safeguard.name=sdpo"]));
    let (a, b) = (metrics(&plain), metrics(&safe));
    assert_eq!(a[0]["loss"], b[0]["loss"]);
    assert_ne!(a[0]["grad_norm"], b[0]["grad_norm"]);
    let lam = b[0]["safeguard_lam"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&lam), "{lam}");
    assert!(a[0].get("safeguard_lam").is_none());
}

#[test]
fn weights_of_the_data_are_normalised_by_the_training_set() {
    let world = World::new(16);
    let run = |folder: &str, sets: &[&str]| {
        let sets =
            [&["train.steps=1", "validate.fraction=0", "train.micro_batch=4", "train.grad_accum=4"], sets].concat();
        metrics(&trained(&world, "dpo", folder, &sets)).remove(0)
    };
    let plain = run("plain", &[]);
    let weighted = run("weighted", &["weights.source=column"]);
    let number = |line: &Value, key: &str| line[key].as_f64().unwrap();
    // One step over all 16 pairs: the mean weight is 1 there, and all losses are ln 2.
    assert!((number(&weighted, "weight_mean") - 1.0).abs() < 1e-6);
    assert!((number(&weighted, "loss") - number(&plain, "loss")).abs() < 1e-6);
    assert!((number(&weighted, "loss_unweighted") - 2f64.ln()).abs() < 1e-6);
    assert!((number(&weighted, "grad_norm") / number(&plain, "grad_norm") - 1.0).abs() > 1e-4);
    assert!(plain.get("loss_unweighted").is_none());
    let published = run("published", &["weights.source=column", "weights.as_published=true"]);
    assert!((number(&published, "loss") - 2f64.ln() * number(&published, "weight_mean")).abs() < 1e-6);
}

#[test]
fn a_moving_reference_is_renewed_on_time_and_frozen_when_it_has_moved_too_far() {
    let world = World::new(16);
    for (name, rank) in [("lora", "lora.rank=2"), ("full", "lora.rank=0")] {
        let lr = if name == "full" { "optim.lr=1e-3" } else { "optim.lr=1e-2" };
        let run = |folder: &str, limit: &str| {
            let sets = ["train.steps=6", rank, lr, "reference.kind=updated", "reference.every=2", limit];
            metrics(&trained(&world, "dpo", &format!("{name}-{folder}"), &sets))
        };
        let lines = run("free", "reference.divergence_limit=1e9");
        let copied: Vec<bool> = lines.iter().map(|l| l.get("reference_copied").is_some()).collect();
        assert_eq!(copied, [false, true, false, true, false, true], "{name}");
        // Right after a copy the policy is its own reference.
        for step in [2, 4] {
            assert_eq!(lines[step]["margin"], 0.0, "{name}: step {}", step + 1);
        }
        assert_ne!(lines[3]["margin"], 0.0, "{name}");
        assert!(lines[1].get("divergence").is_none(), "nothing to measure before the first copy");
        assert!(lines[3]["divergence"].is_number());
        let held = run("held", "reference.divergence_limit=1e-12");
        let frozen: Vec<usize> = (0..6).filter(|i| held[*i].get("reference_frozen").is_some()).collect();
        let moved_away = (1..6).find(|i| held[*i]["divergence_smoothed"].as_f64().is_some_and(|d| d > 1e-12));
        assert_eq!(frozen.first().copied(), moved_away, "{name}");
    }
}

fn assert_memory_survives_a_resume(folder: &str) {
    let world = World::new(16);
    let updated = ["reference.kind=updated", "reference.every=1", "reference.divergence_limit=1e9"];
    let full = [&updated[..], &["lora.rank=0", "optim.lr=1e-4"]].concat();
    let (name, own): (&str, &[&str]) = match folder {
        "lipo" => ("lipo_lambda", &[]),
        "inpo" => ("inpo", &["method.inversion_eta=0.1"]),
        "moving" => ("dpo", &updated),
        "moving_full" => ("dpo", &full),
        name => (name, &[]),
    };
    let sets = [&["optim.lr=1e-3", "train.checkpoint_every=1"], own].concat();
    let whole = trained(&world, name, &format!("{folder}-whole"), &[&sets[..], &["train.steps=4"]].concat());
    let parts = format!("{folder}-parts");
    trained(&world, name, &parts, &[&sets[..], &["train.steps=2"]].concat());
    let data = data_of(&world, name);
    let out = format!("train.out={:?}", world.path(&parts).display().to_string());
    let all = sets.iter().copied().chain(data.iter().map(String::as_str)).chain([out.as_str(), "train.steps=4"]);
    let mut arguments: Vec<&str> = all.flat_map(|set| ["--set", set]).collect();
    arguments.push("--resume");
    succeeds(&mut world.train(&arguments));
    let parts = world.path(&parts);
    assert_eq!(timeless(&whole), timeless(&parts), "{folder}");
    assert_eq!(files(&whole.join("final")), files(&parts.join("final")), "{folder}");
}

one_test_each! {
    memory_survives_a_resume: super::assert_memory_survives_a_resume;
    bco wpo lipo kto inpo moving moving_full aot aot_unpaired relative_po pmpo uapo
}

#[test]
fn inversion_reports_how_far_its_noise_is_from_unit_variance() {
    let world = World::new(16);
    for (name, sets) in
        [("inpo", &["method.inversion=published"][..]), ("smpo", &[]), ("inpo", &["method.inversion_eta=0.5"])]
    {
        let run = trained(&world, name, &format!("{name}{}", sets.len()), &[&["train.steps=1"], sets].concat());
        let line = metrics(&run).remove(0);
        assert!(line["tau_rms"].as_f64().unwrap() > 0.0, "{name}");
        assert!(line["inversion_error"].as_f64().unwrap() > 0.0, "{name}");
        assert_eq!(line["margin"], 0.0, "{name}: policy and reference are one in the first step");
        std::fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn steps_that_a_loss_of_whole_steps_cannot_compare_and_losses_without_a_lower_bound_are_refused() {
    let world = World::new(16);
    let refused = |name: &str, sets: &[&str]| {
        let data = data_of(&world, name);
        let all: Vec<&str> = data.iter().map(String::as_str).chain(sets.iter().copied()).collect();
        world.refused(&mut world.train_with(&all), 2)
    };
    let said = refused("aot", &["train.grad_accum=2"]);
    assert!(said.contains("compares the pairs of a step: expected at least 8 of them, found 4"), "{said}");
    let said = refused("aot_unpaired", &["train.grad_accum=2", "method.items=labels"]);
    assert!(said.contains("compares the labelled images of a step: expected at least 8 of them, found 4"), "{said}");
    let said = refused("relative_po", &["method.block=3"]);
    assert!(said.contains("method.block = 3 pairs: expected a multiple of 3 per step, found 4"), "{said}");
    let said = refused("pmpo", &["method.b=0.5"]);
    assert!(said.contains("undesirable images in") && said.contains("expected method.b above 1 - method.a"), "{said}");
}

/// Dislikes alone, and labelled images for the losses that take pairs by default.
#[test]
fn losses_of_columns_and_of_one_class_take_labelled_images() {
    let world = World::new(16);
    let all = labels(&world, 16);
    let text = std::fs::read_to_string(&all).unwrap();
    let disliked: String =
        text.lines().filter(|row| row.contains("\"label\":false")).map(|row| format!("{row}\n")).collect();
    let bad = world.path("data").join("disliked.jsonl");
    std::fs::write(&bad, disliked).unwrap();
    let cases: [(&str, &Path, &[&str]); 4] = [
        ("pmpo", &bad, &["method.a=0", "method.b=2", "validate.fraction=0"]),
        ("uapo", &all, &["method.items=labels"]),
        ("aot_unpaired", &all, &["method.items=labels", "train.grad_accum=4"]),
        ("relative_po", &all, &["method.form=unpaired", "method.block=4"]),
    ];
    for (name, path, own) in cases {
        let data = format!("data.path={:?}", path.display().to_string());
        let method = format!("method.name={name}");
        let sets = [&[method.as_str(), data.as_str(), "train.steps=4", "optim.lr=1e-3"], own].concat();
        let lines = metrics(&world.trained(name, &sets));
        // A step whose images are all of one class teaches nothing to losses that compare classes: it has no gradient.
        let learnt = lines.iter().filter(|line| line["grad_norm"].as_f64().is_some_and(|norm| norm > 0.0)).count();
        assert!(learnt >= 2, "{name}: {lines:#?}");
    }
}
