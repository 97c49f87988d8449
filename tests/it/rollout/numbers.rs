//! What methods that sample while they train compute: trajectories and probabilities against diffusers
//! (golden/make_rollout.py), the same gradients whatever the micro-batches, the same samples whatever goes together.

use crate::support::each::{one_test_each, one_test_per_sampling_method};
use crate::support::sampling::{method, world};
use crate::support::{self, World, distance, json, metrics, sha256, succeeds, tensors, timeless};
use pipelines::weights::{TensorFile, write_safetensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

type Tensors = BTreeMap<String, Vec<f64>>;

/// One trajectory of each of two prompts, one transition a step, by a policy that starts at the model and stays there.
const GOLDEN: [&str; 9] = [
    "rollout.prompts=[\"red apple\", \"green apple\"]",
    "rollout.trajectories=1",
    "rollout.batch=1",
    "train.micro_batch=1",
    "train.grad_accum=1",
    "train.checkpoint_every=1",
    "train.keep_last=9",
    "lora.rank=4",
    "optim.lr=1e-30",
];

fn golden(kind: &str, name: &str) -> Vec<f64> {
    let file = support::golden("rollout.safetensors");
    tensors(&file)[&format!("{kind}.{name}")].clone()
}

fn largest_difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Puts 0.02 of the golden LoRA in the place of a checkpoint's, and makes its checksum fit.
fn perturb(checkpoint: &Path) {
    let lora = TensorFile::open(&support::lora()).unwrap();
    let names: Vec<String> = lora.names().map(String::from).collect();
    let scaled = names.into_iter().map(|name| {
        let tensor = lora.tensor(&name).unwrap();
        let scale = if name.ends_with("lora_B.weight") { 0.02 } else { 1.0 };
        (name, tensor * scale)
    });
    let file = checkpoint.join("pytorch_lora_weights.safetensors");
    write_safetensors(&file, &scaled.collect::<Vec<_>>(), &[("format", "pt")]).unwrap();
    let mut state = json(&checkpoint.join("state.json"));
    state["files"]["pytorch_lora_weights.safetensors"] = sha256(&std::fs::read(&file).unwrap()).into();
    std::fs::write(checkpoint.join("state.json"), state.to_string()).unwrap();
}

/// Trains a step on trajectories of a model; returns the run, and how far latents and probabilities are off.
fn sampled(case: &str, sets: &[&str]) -> (World, [f64; 2]) {
    let world = world(method("ddpo"));
    let run = world.trained("run", &[&GOLDEN[..], sets, &["train.steps=1"]].concat());
    let checkpoint = run.join("checkpoint-000001");
    let rows: Vec<f64> = tensors(&checkpoint.join("rollout.safetensors")).into_values().flatten().collect();
    let state = json(&checkpoint.join("state.json"));
    let kept = state["rollout"]["kept"].as_array().unwrap();
    let kept: Vec<f64> = kept.iter().map(|kept| kept["log_prob"].as_f64().unwrap()).collect();
    let off = [(rows, "latents"), (kept, "log_prob")];
    (world, off.map(|(found, name)| largest_difference(&found, &golden(case, name))))
}

fn assert_samples_as_diffusers(kind: &str) {
    let prediction = format!("model.prediction_type={kind}");
    let (world, [latents, log_prob]) = sampled(kind, &[&prediction]);

    // The same transitions under a policy that has moved, one a step: those of steps 2 to 8.
    let run = world.run_dir();
    perturb(&run.join("checkpoint-000001"));
    let sets = [&GOLDEN[..], &[prediction.as_str(), "train.steps=8"]].concat();
    let resume: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).chain(["--resume"]).collect();
    succeeds(&mut world.train(&resume));
    let ratios: Vec<f64> = metrics(&run)[1..].iter().map(|line| line["log_ratio"].as_f64().unwrap()).collect();
    let expected = &golden(kind, "log_ratio")[1..];
    let ratio = largest_difference(&ratios, expected);
    eprintln!("{kind}: latents {latents:.1e}, log_prob {log_prob:.1e}, log_ratio {ratio:.1e}");
    assert!(latents < 1e-4 && log_prob < 1e-5, "{kind}: {latents} {log_prob}");
    assert!(ratio < 1e-5, "{kind}: {ratios:?} instead of {expected:?}");
    assert!(expected.iter().all(|ratio| ratio.abs() > 1e-4), "{expected:?} could be met by chance");
}

one_test_each! {
    trajectories_and_the_probabilities_of_their_steps_are_those_of_diffusers: super::assert_samples_as_diffusers;
    epsilon v_prediction
}

#[test]
fn trajectories_of_sdxl_with_its_sizes_and_of_sd21_with_velocity_are_those_of_diffusers() {
    for family in ["sdxl", "sd21"] {
        let path = support::golden("families").join(family);
        let (_, [latents, log_prob]) = sampled(family, &[&format!("model.path={:?}", path.display().to_string())]);
        eprintln!("{family}: latents {latents:.1e}, log_prob {log_prob:.1e}");
        assert!(latents < 1e-4 && log_prob < 1e-5, "{family}: {latents} {log_prob}");
    }
}

/// Ways to take a step of four units of what is sampled in several ways.
const SPLITS: [[&str; 3]; 3] = [
    ["train.micro_batch=4", "train.grad_accum=1", "rollout.batch=4"],
    ["train.micro_batch=1", "train.grad_accum=4", "rollout.batch=4"],
    ["train.micro_batch=2", "train.grad_accum=2", "rollout.batch=1"],
];

/// The accumulated gradient of step 1 in float64: with beta1 = 0 and no clipping it is AdamW's first moment.
fn gradient(run: &Path) -> Tensors {
    let mut state = tensors(&run.join("checkpoint-000001/optimizer.safetensors"));
    state.retain(|name, _| name.ends_with(".exp_avg"));
    state
}

/// Metrics of all steps but the clock's.
fn figures(run: &Path) -> Vec<(String, f64)> {
    let of_line = |line: Value| {
        let numbers = line.as_object().unwrap().clone().into_iter();
        numbers.filter_map(|(key, value)| Some((key, value.as_f64()?))).collect::<Vec<_>>()
    };
    let mut lines = timeless(run);
    // The policy is compared with itself: of numbers that are 0 but for rounding the sign says nothing.
    lines[0].as_object_mut().unwrap().remove("implicit_acc");
    // A state that stands twice in a micro-batch is asked once.
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("network_evaluations")));
    lines.into_iter().flat_map(of_line).collect()
}

fn assert_is_the_same_however_it_is_split(name: &str) {
    let method = method(name);
    let world = world(method);
    let steps = format!("train.steps={}", method.updates);
    // eps: where a gradient is 0 but for rounding, AdamW makes a step of its sign otherwise.
    let sets = [
        "model.dtype=float64",
        "optim.betas=[0, 0.999]",
        "optim.eps=1e-3",
        "optim.max_grad_norm=1e9",
        "optim.lr=1e-3",
        "train.checkpoint_every=1",
        "train.keep_last=9",
        steps.as_str(),
    ];
    let run = |name: &str, sets: &[&str]| world.trained(name, sets);
    let first = run("0", &[&sets[..], &SPLITS[0]].concat());
    let weights = |run: &Path| tensors(&run.join("final/pytorch_lora_weights.safetensors"));
    for (i, split) in SPLITS.iter().enumerate().skip(1) {
        let other = run(&i.to_string(), &[&sets[..], split].concat());
        let off = [distance(&gradient(&other), &gradient(&first)), distance(&weights(&other), &weights(&first))];
        let (a, b) = (figures(&other), figures(&first));
        let names = |figures: &[(String, f64)]| figures.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&a), names(&b));
        let differs = a.iter().zip(&b).map(|((name, x), (_, y))| ((x - y).abs() / y.abs().max(1.0), name));
        let worst = differs.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        eprintln!("{} {split:?}: gradient {:.1e}, weights {:.1e}, worst figure {worst:?}", method.name, off[0], off[1]);
        assert!(off.iter().all(|off| *off < 1e-6), "{} {split:?}: {off:?}", method.name);
        assert!(worst.0 < 1e-5, "{} {split:?}: {worst:?}", method.name);
    }
    let other = run("other", &[&sets[..], &SPLITS[0], &["train.seed=1"]].concat());
    assert!(distance(&gradient(&other), &gradient(&first)) > 0.1, "{}: another seed, the same gradient", method.name);
}

one_test_per_sampling_method! {
    neither_micro_batches_nor_what_is_sampled_together_change_gradients_weights_and_figures:
        super::assert_is_the_same_however_it_is_split
}
