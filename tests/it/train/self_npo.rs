//! self_npo through the real binary: from pairs, labelled images and noise, resumed amid an accumulation, on every family.
//! What a rollout computes is held to docs/methods.md 21.10 beside its code.

use crate::support::each::one_test_each;
use crate::support::{World, distance, files, flags, golden, metrics, succeeds, tensors, timeless};
use std::path::{Path, PathBuf};

/// A few steps at a rate that moves a LoRA of the tiny model, with an average that follows it.
const SETS: [&str; 3] = ["method.name=self_npo", "method.ema_decay=0.5", "method.huber_c=0.01"];

fn family(name: &str) -> PathBuf {
    golden("families").join(name)
}

fn path_set(key: &str, path: &Path) -> String {
    format!("{key}={:?}", path.display().to_string())
}

/// Rewrites the configuration of a world: nothing is held out, and what `change` does.
fn rewrite(world: &World, change: impl Fn(&mut toml::Table)) {
    let file = world.path("run.toml");
    let mut table: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    table.remove("validate");
    change(&mut table);
    std::fs::write(&file, table.to_string()).unwrap();
}

/// Eight pairs.
fn from_data() -> World {
    let world = World::new(8);
    rewrite(&world, |_| ());
    world
}

/// Three prompts and no items.
fn from_noise() -> World {
    let world = World::new(0);
    rewrite(&world, |table| {
        table["data"].as_table_mut().unwrap().remove("path");
        let method = "name = \"self_npo\"\nstart = \"noise\"\nema_decay = 0.5\nhuber_c = 0.01\nguidance = -5\n";
        table.insert("method".into(), method.parse::<toml::Table>().unwrap().into());
        let rollout = "prompts = [\"red apple\", \"green apple\", \"black cat\"]\nprompts_per_iteration = 3\n";
        table.insert("rollout".into(), rollout.parse::<toml::Table>().unwrap().into());
    });
    world
}

/// Every line has a loss and a gradient, and nothing of a reference, pairs or samples.
fn assert_lines(run: &Path, steps: usize) {
    let lines = metrics(run);
    assert_eq!(lines.len(), steps);
    for line in lines {
        for key in ["loss", "grad_norm"] {
            assert!(line[key].as_f64().is_some_and(|x| x.is_finite() && x > 0.0), "{key}: {line}");
        }
        for absent in ["margin", "implicit_acc", "model_mse_w", "ref_mse_w", "beta", "rollout_reward", "log_ratio"] {
            assert!(line[absent].is_null(), "{absent}: {line}");
        }
    }
}

#[test]
fn winners_of_pairs_and_labelled_images_are_the_pictures_to_start_from() {
    let world = from_data();
    let pairs = world.trained("pairs", &SETS);
    assert_lines(&pairs, 3);
    // The same pictures under the same ids, as labelled images of either class, without one for validation.
    let rows: String = (0..8)
        .map(|i| {
            let label = i % 2 == 0;
            format!("{{\"id\": \"p{i}\", \"prompt\": \"a drawing of number {i}\", \"image\": \"w{i}.png\", \"label\": {label}}}\n")
        })
        .collect();
    std::fs::write(world.path("data/labels.jsonl"), rows).unwrap();
    let path = path_set("data.path", &world.path("data/labels.jsonl"));
    let labels = world.trained("labels", &[&SETS[..], &[path.as_str()]].concat());
    assert_eq!(timeless(&labels), timeless(&pairs));
    let weights = |run: &Path| tensors(&run.join("final/pytorch_lora_weights.safetensors"));
    assert_eq!(weights(&labels), weights(&pairs));
}

#[test]
fn a_run_from_noise_goes_through_its_prompts_pass_by_pass() {
    let world = from_noise();
    let run = world.trained("run", &["train.steps=3"]);
    assert_lines(&run, 3);
    // Four prompts a step of three in a pass.
    let epochs: Vec<f64> = metrics(&run).iter().map(|line| line["epoch"].as_f64().unwrap()).collect();
    assert!(epochs.iter().zip([4.0, 8.0, 12.0]).all(|(found, n)| (found - n / 3.0).abs() < 1e-12), "{epochs:?}");
    let again = world.trained("again", &["train.steps=3"]);
    assert_eq!((timeless(&run), files(&run.join("final"))), (timeless(&again), files(&again.join("final"))));
}

fn assert_resumes_after_a_stop(start: &str) {
    let world = if start == "data" { from_data() } else { from_noise() };
    let of_start: &[&str] = if start == "data" { &SETS } else { &[] };
    let sets = [of_start, &["train.grad_accum=8", "train.micro_batch=1", "train.steps=8"]].concat();
    let whole = world.trained("whole", &sets);
    let (code, said) = world.signalled("TERM train 3 + 5", &flags(&sets));
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("step 3 is checkpointed"), "{said}");
    let run = world.run_dir();
    let ema = run.join("checkpoint-000003/ema.safetensors");
    assert!(distance(&tensors(&ema), &tensors(&ema.with_file_name("pytorch_lora_weights.safetensors"))) > 1e-3);
    succeeds(&mut world.train(&[&["--resume"][..], &flags(&sets)].concat()));
    assert_eq!(files(&run.join("final")), files(&whole.join("final")), "{start}");
    assert_eq!(timeless(&run), timeless(&whole), "{start}");
}

one_test_each! {
    a_run_stopped_amid_an_accumulation_resumes_to_the_same_bytes_with_the_average_that_rolls_out_from:
        super::assert_resumes_after_a_stop;
    data noise
}

#[test]
fn neither_micro_batches_nor_accumulation_change_the_weights_beyond_rounding() {
    let world = from_noise();
    let weights = |name: &str, sets: &[&str]| {
        let common = ["model.dtype=float64", "train.steps=3", "optim.eps=1e-3"];
        tensors(&world.trained(name, &[&common[..], sets].concat()).join("final/pytorch_lora_weights.safetensors"))
    };
    let together = weights("together", &["train.micro_batch=4", "train.grad_accum=1"]);
    let apart = weights("apart", &["train.micro_batch=1", "train.grad_accum=4"]);
    let off = distance(&apart, &together);
    eprintln!("off by {off:.1e}");
    assert!(off < 1e-8, "{off}");
    let other = weights("other", &["train.micro_batch=4", "train.grad_accum=1", "method.guidance=-1"]);
    assert!(distance(&other, &together) > 1e-3, "guidance away from the prompt changes nothing");
}

#[test]
fn every_family_trains_on_its_own_truncated_rollouts() {
    let (data, noise) = (from_data(), from_noise());
    for (name, sets) in [("sdxl", &[][..]), ("sd21", &[]), ("sdxl", &["model.prediction_type=v_prediction"])] {
        let path = path_set("model.path", &family(name));
        let tag = format!("{name}{}", sets.len());
        assert_lines(&data.trained(&tag, &[&SETS[..], &[path.as_str()], sets].concat()), 3);
        assert_lines(&noise.trained(&tag, &[&[path.as_str()], sets].concat()), 3);
    }
}
