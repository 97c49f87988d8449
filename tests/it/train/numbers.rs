//! What a run computes: the same whatever the micro-batches, workers and threads (promise 2 of docs/determinism.md), and
//! the semantics of schedule, EMA, validation, best/, spikes and methods.

use crate::support::{self, World, distance, files, json, metrics, succeeds, tensors, timeless};
use std::collections::BTreeMap;
use std::path::Path;

type Tensors = BTreeMap<String, Vec<f64>>;

fn lora_weights(folder: &Path) -> Tensors {
    tensors(&folder.join("pytorch_lora_weights.safetensors"))
}

/// Three ways to take a step of four pairs.
const SPLITS: [[&str; 3]; 3] = [
    ["train.micro_batch=4", "train.grad_accum=1", "data.workers=1"],
    ["train.micro_batch=2", "train.grad_accum=2", "data.workers=3"],
    ["train.micro_batch=1", "train.grad_accum=4", "data.workers=2"],
];

/// The accumulated gradient of step 1: with beta1 = 0 and no clipping it is AdamW's first moment.
fn gradient(world: &World, name: &str, sets: &[&str]) -> Tensors {
    let gradient =
        ["optim.betas=[0, 0.999]", "optim.max_grad_norm=1e9", "train.steps=1", "lora.rank=0", "optim.lr=1e-6"];
    let run = world.trained(name, &[&gradient[..], sets].concat());
    let mut state = tensors(&run.join("checkpoint-000001/optimizer.safetensors"));
    state.retain(|name, _| name.ends_with(".exp_avg"));
    state
}

#[test]
fn the_gradient_of_step_1_does_not_depend_on_micro_batches_and_workers() {
    let world = World::new(16);
    let first = gradient(&world, "0", &SPLITS[0]);
    for (i, split) in SPLITS.iter().enumerate().skip(1) {
        let off = distance(&gradient(&world, &i.to_string(), split), &first);
        eprintln!("{split:?}: {off:.1e}");
        assert!(off < 1e-4, "{split:?}: {off}");
    }
    let other = gradient(&world, "other", &["train.seed=1"]);
    assert!(distance(&other, &first) > 0.1, "another seed gives the same gradient");
}

/// w10 - w0 of a LoRA that starts at the golden one.
fn ten_steps(world: &World, name: &str, dtype: &str, sets: &[&str]) -> Tensors {
    let init = format!("lora.init={:?}", support::lora().display().to_string());
    let dtype = format!("model.dtype={dtype}");
    let common = [init.as_str(), dtype.as_str(), "lora.rank=4", "train.steps=10", "optim.lr=1e-3"];
    let run = world.trained(name, &[&common[..], sets].concat());
    let mut end = lora_weights(&run.join("final"));
    let start = tensors(&support::lora());
    for (name, values) in &mut end {
        values.iter_mut().zip(&start[name]).for_each(|(w, w0)| *w -= w0);
    }
    end
}

#[test]
fn ten_steps_do_not_depend_on_micro_batches_and_workers() {
    let world = World::new(16);
    for (dtype, tolerance) in [("float64", 1e-8), ("float32", 2e-2)] {
        let name = |split: &str| format!("{dtype}-{split}");
        let first = ten_steps(&world, &name("0"), dtype, &SPLITS[0]);
        let second = ten_steps(&world, &name("2"), dtype, &SPLITS[2]);
        let off = distance(&second, &first);
        eprintln!("{dtype}: {off:.1e}");
        assert!(off < tolerance, "{dtype}: {off}");
        let other = ten_steps(&world, &name("other"), dtype, &["data.flip=0"]);
        assert!(distance(&other, &first) > 2e-2, "{dtype}: other draws give the same weights");
    }
}

#[test]
fn two_threads_repeat_their_own_bytes_and_agree_with_one_up_to_rounding() {
    let world = World::new(16);
    let sets = ["train.steps=2", "optim.lr=1e-3"];
    let one = world.trained("one", &sets);
    let two = |name: &str| world.trained(name, &[&sets[..], &["train.threads=2"]].concat());
    let (a, b) = (two("a"), two("b"));
    assert_eq!(files(&a.join("final")), files(&b.join("final")));
    assert_eq!(timeless(&a), timeless(&b));
    assert!(distance(&lora_weights(&a.join("final")), &lora_weights(&one.join("final"))) < 2e-2);
}

#[test]
fn the_first_step_compares_the_model_with_itself() {
    let world = World::new(16);
    let init = format!("lora.init={:?}", support::lora().display().to_string());
    for (name, sets) in
        [("lora", &[][..]), ("init", &[init.as_str(), "lora.rank=4"]), ("full", &["lora.rank=0", "optim.lr=1e-4"])]
    {
        let run = world.trained(name, sets);
        let lines = metrics(&run);
        let first = &lines[0];
        for key in ["margin", "reward_w", "reward_l", "gap_w", "gap_l"] {
            assert_eq!(first[key], 0.0, "{name} {key}");
        }
        assert_eq!((&first["implicit_acc"], &first["gradient_factor"]), (&0.5.into(), &0.5.into()), "{name}");
        assert!((first["loss"].as_f64().unwrap() - 2f64.ln()).abs() < 1e-7, "{name}: {}", first["loss"]);
        assert_ne!(lines[1]["margin"], 0.0, "{name} learns nothing");
    }
}

#[test]
fn warm_up_and_schedule_are_in_the_metrics() {
    let world = World::new(12);
    let sets = ["train.steps=6", "optim.warmup_steps=2", "optim.lr=1e-3"];
    let rates = |name: &str, schedule: &str| -> Vec<f64> {
        let run = world.trained(name, &[&sets[..], &[schedule]].concat());
        metrics(&run).iter().map(|l| (l["lr"].as_f64().unwrap() * 1e9).round() / 1e6).collect()
    };
    assert_eq!(rates("constant", "optim.schedule=constant"), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
    assert_eq!(rates("linear", "optim.schedule=linear"), [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
    assert_eq!(rates("cosine", "optim.schedule=cosine"), [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]);
    assert_eq!(rates("scaled", "optim.lr_scale=global_batch")[5], 4.0);
}

#[test]
fn the_ema_is_the_average_of_the_weights_and_what_a_user_gets() {
    let world = World::new(12);
    let run = world.trained("run", &["ema.decay=0.5", "train.checkpoint_every=1", "train.keep_every=1"]);
    let weights: Vec<Tensors> = (1..=3).map(|s| lora_weights(&run.join(format!("checkpoint-{s:06}")))).collect();
    // The start: lora_B = 0, so the averages of lora_B are known without it.
    let average = lora_weights(&run.join("final"));
    for (name, values) in average.iter().filter(|(name, _)| name.ends_with("lora_B.weight")) {
        for (i, found) in values.iter().enumerate() {
            let expected = 0.5 * weights[2][name][i] + 0.25 * weights[1][name][i] + 0.125 * weights[0][name][i];
            assert!((found - expected).abs() < 1e-8, "{name} {i}: {found} {expected}");
        }
    }
    assert_eq!(tensors(&run.join("final/pytorch_lora_weights_raw.safetensors")), weights[2]);
    assert_eq!(tensors(&run.join("checkpoint-000003/ema.safetensors")), average);
}

#[test]
fn validation_is_the_same_whatever_the_seed_and_starts_at_nothing_learnt() {
    let world = World::new(24);
    let sets = ["validate.every=2", "train.steps=3", "optim.lr=1e-30"];
    let last = |name: &str, seed: &str| metrics(&world.trained(name, &[&sets[..], &[seed]].concat())).pop().unwrap();
    let (a, b) = (last("a", "train.seed=0"), last("b", "train.seed=5"));
    for key in ["val_margin", "val_gap_w", "val_gap_l"] {
        assert!(a[key].as_f64().unwrap().abs() < 1e-6, "{key} {}", a[key]);
    }
    assert_ne!(a["loss"].as_f64(), None);
    let close = |key: &str| (a[key].as_f64().unwrap() - b[key].as_f64().unwrap()).abs() < 1e-5;
    assert!(close("val_loss") && close("val_margin"), "{a} {b}");
    let run = world.trained("c", &["validate.every=2", "train.steps=3"]);
    let has: Vec<bool> = metrics(&run).iter().map(|l| l.get("val_margin").is_some()).collect();
    assert_eq!(has, [false, true, true], "after every second step and after the last");
}

#[test]
fn best_holds_the_weights_of_the_highest_val_margin() {
    let world = World::new(24);
    let run =
        world.trained("run", &["validate.every=1", "train.steps=6", "train.checkpoint_every=1", "train.keep_every=1"]);
    let margins: Vec<f64> = metrics(&run).iter().map(|l| l["val_margin"].as_f64().unwrap()).collect();
    let best = (0..margins.len()).max_by(|a, b| margins[*a].total_cmp(&margins[*b]).then(b.cmp(a))).unwrap();
    assert_eq!(
        lora_weights(&run.join("best")),
        lora_weights(&run.join(format!("checkpoint-{:06}", best + 1))),
        "{margins:?}"
    );
    let state = json(&run.join("checkpoint-000006/state.json"));
    assert_eq!(state["best"], serde_json::json!([best as u64 + 1, margins[best]]));
    assert!(!world.trained("off", &[]).join("best").exists());
}

#[test]
fn no_held_out_prompt_switches_validation_off_and_says_so() {
    let world = World::new(12);
    let said = succeeds(&mut world.train_with(&["validate.fraction=0", "validate.every=1"]));
    assert_eq!(said.matches("no pair is held out: validation is off").count(), 1, "{said}");
    assert!(metrics(&world.run_dir()).iter().all(|l| l.get("val_margin").is_none()));
}

#[test]
fn sft_trains_on_winners_and_validates_both() {
    let world = World::new(24);
    let run = world.trained("run", &["method.name=sft", "validate.every=3", "lora.rank=0", "optim.lr=1e-4"]);
    let lines = metrics(&run);
    assert_eq!(lines[0]["loss"], lines[0]["model_mse_w"]);
    for absent in ["margin", "implicit_acc", "model_mse_l", "ref_mse_w", "gap_w", "beta", "margin_by_t"] {
        assert!(lines[0].get(absent).is_none(), "{absent}");
    }
    for present in ["val_loss", "val_margin", "val_implicit_acc", "val_gap_w", "val_gap_l"] {
        assert!(lines[2].get(present).is_some(), "{present}");
    }
    let resolved = std::fs::read_to_string(run.join("resolved.toml")).unwrap();
    assert!(!resolved.contains("[reference]") && !resolved.contains("[lora]"), "{resolved}");
}

/// Goes on from step 2 with a guard that remembers 60 steps of gradients so small that every step is a spike.
fn with_spikes(world: &World, on_spike: &str, code: i32) -> String {
    let on_spike = format!("train.on_spike={on_spike}");
    let run = world.trained("run", &[on_spike.as_str(), "train.steps=2"]);
    let file = run.join("checkpoint-000002/state.json");
    let mut state = json(&file);
    state["guard"]["window"] = vec![-9.0; 60].into();
    std::fs::write(&file, state.to_string()).unwrap();
    let resume = ["--resume", "--set", &on_spike, "--set", "train.steps=12", "--set", "train.checkpoint_every=3"];
    let assert = world.train(&resume).assert().code(code);
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

#[test]
fn a_spike_is_told_and_passes_where_it_should_only_warn() {
    let world = World::new(12);
    let said = with_spikes(&world, "warn", 0);
    assert!(
        said.contains("step 3: the gradient norm")
            && said.contains("left its recent range: train.on_spike = \"warn\" lets it pass"),
        "{said}"
    );
    let lines = metrics(&world.run_dir());
    assert!(lines[2]["spike"] == true && lines[2].get("skipped").is_none());
}

#[test]
fn skipped_spikes_leave_the_weights_and_five_in_a_row_end_the_run() {
    let world = World::new(12);
    let said = with_spikes(&world, "skip", 1);
    assert!(said.contains("error: step 7: 5 spikes in a row were skipped"), "{said}");
    let run = world.run_dir();
    let lines = metrics(&run);
    assert_eq!(lines.len(), 6);
    assert!(lines[2..].iter().all(|l| l["spike"] == true && l["skipped"] == true));
    // Checkpoints on the way are as the last good one; none is written for the end.
    assert_eq!(lora_weights(&run.join("checkpoint-000003")), lora_weights(&run.join("checkpoint-000002")));
    assert!(!said.contains("is checkpointed"), "{said}");
}

#[test]
fn a_spike_stops_the_run_where_it_should() {
    let world = World::new(12);
    let said = with_spikes(&world, "stop", 1);
    assert!(
        said.contains("error: step 3: the gradient norm")
            && said.contains("train.on_spike = \"stop\"; the weights were not changed"),
        "{said}"
    );
    assert_eq!(metrics(&world.run_dir()).len(), 2);
}
