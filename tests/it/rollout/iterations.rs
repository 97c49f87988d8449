//! Methods that sample while they train, through the real binary: their metrics, and runs that are killed or stopped
//! while they sample or within an iteration, with the buffer in memory and on disk.

use crate::support::each::{one_test_each, one_test_per_sampling_method};
use crate::support::sampling::{Method, PROMPTS, method, world};
use crate::support::{self, World, copy, files, flags, golden, json, metrics, names, number, succeeds, timeless};
use diffpref::objectives::REGISTRY;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Two iterations.
fn two_iterations(method: Method) -> String {
    format!("train.steps={}", 2 * method.updates)
}

fn resume(world: &World, sets: &[&str]) -> String {
    succeeds(&mut world.train(&[&["--resume"][..], &flags(sets)].concat()))
}

/// Keys of the first line of an iteration.
const OF_ITERATION: [&str; 10] = [
    "iteration",
    "rollout_reward",
    "rollout_reward_std",
    "rollout_reward_by_prompt",
    "score_style",
    "watch_content",
    "diversity",
    "kept_transitions",
    "kept_units",
    "rollout_s",
];

/// Asserts the keys that describe the samples of iteration `i` in its first line.
fn assert_reports(method: Method, line: &Value, i: u64) {
    for key in OF_ITERATION {
        assert!(!line[key].is_null(), "{}: no {key}: {line}", method.name);
    }
    assert_eq!(line["iteration"], i, "{}", method.name);
    let by_prompt = line["rollout_reward_by_prompt"].as_object().unwrap();
    assert_eq!(by_prompt.len(), 2);
    assert!(by_prompt.keys().all(|prompt| PROMPTS.contains(&prompt.as_str())));
    let mean = by_prompt.values().map(|v| v.as_f64().unwrap()).sum::<f64>() / 2.0;
    assert!((number(line, "rollout_reward") - mean).abs() < 1e-9, "{line}");
    assert_eq!(line["score_style"], line["rollout_reward"], "one scorer of weight 1");
    assert!(number(line, "rollout_reward_std") > 0.0 && number(line, "diversity") > 0.0, "{line}");
    if method.name != "dense-reward" {
        assert_eq!(line["kept_units"], method.units, "{}: {line}", method.name);
    }
    // What is compared with the start model says how far it has gone from there: at first nowhere.
    match (method.name, i) {
        ("ddpo", _) => assert!(line["kl"].is_null(), "{line}"),
        // The start model is evaluated on part of the batch, which rounds differently.
        ("grpo", 0) => assert!(number(line, "kl").abs() < 1e-6, "{line}"),
        (_, 0) => assert_eq!(number(line, "kl"), 0.0, "{}: {line}", method.name),
        _ => assert!(number(line, "kl") != 0.0, "{}: {line}", method.name),
    }
}

fn assert_says_what_its_page_promises(name: &str) {
    let method = method(name);
    let world = world(method);
    let sets = [two_iterations(method), "optim.lr=1e-3".to_string()];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let run = world.trained("run", &sets);
    let lines = metrics(&run);
    assert_eq!(lines.len() as u64, 2 * method.updates);
    for (s, line) in lines.iter().enumerate() {
        let (s, updates) = (s as u64, method.updates);
        match s % updates {
            0 => assert_reports(method, line, s / updates),
            _ => assert!(OF_ITERATION.iter().all(|key| line[*key].is_null()), "{name}: {line}"),
        }
        assert!((number(line, "epoch") - (s + 1) as f64 / updates as f64).abs() < 1e-12, "{name}: {line}");
        for key in ["loss", "grad_norm", "log_ratio", "approx_kl", "clamped_fraction", "network_evaluations"] {
            assert!(number(line, key).is_finite(), "{name}: {line}");
        }
        // A policy that has left the range of its clamp wholly has no gradient.
        let clamped = number(line, "clamped_fraction");
        assert_eq!(number(line, "grad_norm") > 0.0, clamped < 1.0, "{name} {s}: {line}");
        assert!(s > 0 || clamped == 0.0, "{name}: {line}");
        // Lists of two trajectories are pairs too, without a beta.
        let pairs = !["ddpo", "dpok", "grpo"].contains(&name);
        for (key, present) in
            [("implicit_acc", pairs), ("gradient_factor", pairs), ("beta", pairs && name != "dense-reward")]
        {
            assert_eq!(line[key].is_number(), present, "{name} {key}: {line}");
        }
        assert_eq!(line["noise_pred_drift"].is_number(), name == "dpok", "{name}: {line}");
        assert_eq!(line["start_kl"].is_number(), name == "grpo", "{name}: {line}");
        let samples_anew = s % updates == 0;
        assert_eq!(line["idle_groups"].is_number(), name == "grpo" && samples_anew, "{name}: {line}");
        let compared = samples_anew && ["ddpo", "dpok", "grpo"].contains(&name);
        match compared {
            true => assert!(number(line, "fresh_ratio_error") < 1e-5, "{name}: {line}"),
            false => assert!(line["fresh_ratio_error"].is_null(), "{name}: {line}"),
        }
        for absent in ["margin", "reward_w", "model_mse_w", "gap_w", "margin_by_t"] {
            assert!(line[absent].is_null(), "{name} {absent}: {line}");
        }
    }
    // Step 1 compares the policy with itself, in batches of another size.
    let (first, second) = (number(&lines[0], "approx_kl"), number(&lines[1], "approx_kl"));
    assert!(number(&lines[0], "log_ratio").abs() < 1e-5 && first < 1e-10, "{name}: {}", lines[0]);
    assert!(second > 1e3 * first, "{name} learns nothing: {}", lines[1]);
    // The same seed gives the same bytes, another seed other ones.
    let again = world.trained("again", &sets);
    assert_eq!(files(&run.join("final")), files(&again.join("final")), "{name}");
    assert_eq!(timeless(&run), timeless(&again), "{name}");
    let other = world.trained("other", &["train.steps=1", "train.seed=1"]);
    assert_ne!(metrics(&other)[0]["rollout_reward"], lines[0]["rollout_reward"], "{name}");
}

one_test_per_sampling_method!(two_iterations_say_what_the_page_promises: super::assert_says_what_its_page_promises);

#[test]
fn no_method_that_samples_is_left_out() {
    let sampling: BTreeSet<&str> = REGISTRY.iter().filter(|e| e.needs().rollouts.is_some()).map(|e| e.name).collect();
    assert_eq!(two_iterations_say_what_the_page_promises::NAMES.iter().copied().collect::<BTreeSet<_>>(), sampling);
}

fn assert_trains_on_its_own_samples(family: &str) {
    let path = golden("families").join(family);
    let model = format!("model.path={:?}", path.display().to_string());
    for method in [method("ddpo"), method("spo")] {
        let steps = format!("train.steps={}", method.updates);
        // The defaults of SDXL are other ones.
        let sets = match method.name {
            "spo" => vec![model.as_str(), &steps, "optim.lr=1e-3", "method.candidates=4", "method.denoise_ahead=0"],
            _ => vec![model.as_str(), &steps, "optim.lr=1e-3"],
        };
        let world = world(method);
        let lines = metrics(&world.trained("run", &sets));
        assert_reports(method, &lines[0], 0);
        assert!(number(&lines[0], "log_ratio").abs() < 1e-5, "{family} {}: {}", method.name, lines[0]);
        assert!(number(lines.last().unwrap(), "approx_kl") > 0.0, "{family} {} learns nothing", method.name);
        assert!(lines.iter().all(|line| number(line, "loss").is_finite()), "{family} {}", method.name);
    }
}

one_test_each!(trains_on_its_own_samples: super::assert_trains_on_its_own_samples; sdxl sd21);

#[test]
fn network_evaluations_are_counted_row_by_row() {
    let counts = |name: &str| {
        let world = world(method(name));
        let run = world.trained("run", &[&format!("train.steps={}", method(name).updates)]);
        metrics(&run).iter().map(|line| line["network_evaluations"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    // Four trajectories of four calls, both sides of guidance: 32; 4 transitions a step: 8.
    assert_eq!(counts("ddpo"), [40, 48, 56, 64]);
    // 16 transitions by the start model: 32. Two of them in each of 4 pairs: 16 a step.
    assert_eq!(counts("d3po"), [32 + 32 + 16, 32 + 32 + 32]);
    assert_eq!(counts("dpok"), [64 + 8, 64 + 16, 64 + 24, 64 + 32]);
    // Of 4 trajectories each of 4 candidates after calls 1, 2, 3 (after the last there is a picture): 2 x 4 x 4 x 2 = 64; the
    // start model once for each of 12 pairs: 24; both transitions of a pair start from one state: 8 a step.
    assert_eq!(counts("spo"), [32 + 64 + 24 + 8, 32 + 64 + 24 + 16, 32 + 64 + 24 + 24]);
}

/// Trains `steps` steps, which end within an iteration, then resumes to the end of the second one. The files equal those
/// of `whole`.
fn assert_resumes(world: &World, method: Method, whole: &Path, sets: &[&str], steps: u64) {
    let name = format!("{} {sets:?}", method.name);
    world.trained("run", &[sets, &[&format!("train.steps={steps}")]].concat());
    let said = resume(world, &[sets, &[&two_iterations(method)]].concat());
    assert!(said.contains(&format!("resuming at step {steps}")), "{said}");
    assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")), "{name}");
    assert_eq!(timeless(&world.run_dir()), timeless(whole), "{name}");
    std::fs::remove_dir_all(world.run_dir()).unwrap();
}

fn assert_resumes_amid_an_iteration(name: &str) {
    let method = method(name);
    let world = world(method);
    let whole = world.trained("whole", &[&two_iterations(method)]);
    for buffer in ["rollout.buffer=memory", "rollout.buffer=disk"] {
        assert_resumes(&world, method, &whole, &[buffer], method.updates + 1);
    }
}

one_test_per_sampling_method! {
    resumes_amid_an_iteration_to_the_same_bytes_with_the_buffer_in_memory_and_on_disk: super::assert_resumes_amid_an_iteration
}

fn assert_full_fine_tune_resumes(name: &str) {
    let method = method(name);
    let world = world(method);
    let sets = ["lora.rank=0", "optim.lr=1e-4", "ema.decay=0.5"];
    let whole = world.trained("whole", &[&sets[..], &[&two_iterations(method)]].concat());
    assert!(whole.join("final/unet_raw").is_dir());
    assert_resumes(&world, method, &whole, &sets, 1);
}

one_test_each! {
    a_full_fine_tune_with_an_average_resumes_amid_an_iteration_to_the_same_bytes: super::assert_full_fine_tune_resumes;
    spo dpok
}

#[test]
fn a_run_killed_amid_its_second_iteration_ends_with_the_bytes_of_one_never_killed() {
    for (name, buffer) in [("ddpo", "rollout.buffer=memory"), ("tailorpo", "rollout.buffer=disk")] {
        let method = method(name);
        let world = world(method);
        let sets = ["train.checkpoint_every=1", "ema.decay=0.5", buffer, &two_iterations(method)];
        let whole = world.trained("whole", &sets);
        let (code, said) = world.signalled("KILL train 6 + 1", &flags(&sets));
        assert_eq!(code, None, "{said}");
        let run = world.run_dir();
        assert!(!run.join("final").exists());

        // With fresh moments it must end elsewhere, so that this test can fail.
        let fresh = world.path("fresh");
        copy(&run, &fresh);
        let newest = names(&fresh).into_iter().rfind(|name| name.starts_with("checkpoint-")).unwrap();
        support::zero_optimizer(&fresh.join(newest));

        let said = resume(&world, &sets);
        assert!(said.contains("resuming at step"), "{said}");
        assert_eq!(files(&run.join("final")), files(&whole.join("final")), "{name}");
        assert_eq!(timeless(&run), timeless(&whole), "{name}");
        assert!(names(&run).iter().all(|name| !name.starts_with('.')), "{:?}", names(&run));
        resume(&world, &[&sets[..], &[&format!("train.out={:?}", fresh.display().to_string())]].concat());
        assert_ne!(files(&fresh.join("final")), files(&whole.join("final")), "{name}");
    }
}

#[test]
fn a_run_stopped_or_killed_while_it_samples_loses_nothing_but_time() {
    for (signal, code) in [("TERM", Some(143)), ("KILL", None)] {
        for buffer in ["rollout.buffer=memory", "rollout.buffer=disk"] {
            let world = world(method("ddpo"));
            let sets = ["rollout.steps=10", "train.grad_accum=10", "train.steps=4", "train.checkpoint_every=1", buffer];
            let whole = world.trained("whole", &sets);
            let (found, said) = world.signalled(&format!("{signal} train 2, rollout 5"), &flags(&sets));
            assert_eq!(found, code, "{said}");
            assert_eq!(metrics(&world.run_dir()).len(), 2, "{said}");
            let said = resume(&world, &sets);
            assert!(said.contains("resuming at step 2"), "{said}");
            assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")), "{said}");
            assert_eq!(timeless(&world.run_dir()), timeless(&whole));
        }
    }
}

#[test]
fn a_run_stopped_in_the_first_step_of_an_iteration_still_says_what_it_sampled() {
    let world = world(method("ddpo"));
    // Sixteen micro-batches per step, one step per iteration, checkpoints only where a signal asks for one.
    let sets = ["train.micro_batch=1", "train.grad_accum=16", "train.steps=4"];
    let whole = world.trained("whole", &sets);
    let (code, said) = world.signalled("TERM train 2, rollout 16 + 4", &flags(&sets));
    assert_eq!(code, Some(143), "{said}");
    let state = json(&world.run_dir().join("checkpoint-000002/state.json"));
    assert_eq!((&state["rollout"]["updates"], &state["rollout"]["done"]), (&1.into(), &0.into()), "{state}");
    resume(&world, &sets);
    assert_eq!(timeless(&world.run_dir()), timeless(&whole));
    assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")));
}
