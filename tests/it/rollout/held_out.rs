//! Prompts that are sampled and not trained on: what their rewards say, in metrics, in the report, and on resume.

use crate::support::each::one_test_per_sampling_method;
use crate::support::sampling::{method, world};
use crate::support::{self, World, copy, files, metrics, number, succeeds, timeless};
use serde_json::Value;
use std::path::Path;

const HELD_OUT: [&str; 4] = [
    "rollout.prompts=[\"red apple\", \"green apple\"]",
    "validate.prompts=[\"hot pepper\", \"black cat\"]",
    "validate.every=2",
    "validate.draws=3",
];

fn with<'a>(sets: &[&'a str]) -> Vec<&'a str> {
    [&HELD_OUT[..], sets].concat()
}

/// Of the metrics of a validated step.
const NAMES: [&str; 3] = ["val_reward", "val_score_style", "val_watch_content"];

fn assert_says_how_far_the_reward_has_come(name: &str) {
    let method = method(name);
    let world = world(method);
    let run = world.trained("run", &with(&["train.steps=4", "optim.lr=1e-2"]));
    let lines = metrics(&run);
    assert!([0, 2].iter().all(|s| NAMES.iter().all(|key| lines[*s][*key].is_null())), "{}", method.name);
    let start = |line: &Value, name: &str| number(line, name) - number(line, &format!("{name}_gain"));
    for name in NAMES {
        // The same start, and another policy, every time.
        let (first, last) = (start(&lines[1], name), start(&lines[3], name));
        assert!((first - last).abs() < 1e-9, "{} {name}: {first} and {last}", method.name);
        assert_ne!(lines[1][name], lines[3][name], "{} {name}", method.name);
        let [low, gain, high] = ["gain_lo", "gain", "gain_hi"].map(|key| number(&lines[3], &format!("{name}_{key}")));
        assert!(low < gain && gain < high, "{} {name}: {low} {gain} {high}", method.name);
    }
    assert_eq!(lines[3]["val_reward"], lines[3]["val_score_style"], "one scorer of weight 1");
    // What is trained is what it would be without validation.
    let without = world.trained("without", &["rollout.prompts=[\"red apple\", \"green apple\"]", "train.steps=4"]);
    assert_eq!(files(&run.join("final")), files(&without.join("final")), "{}", method.name);
    assert!(run.join("best/pytorch_lora_weights.safetensors").is_file());
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("Held-out reward") && page.contains("The reward on held-out prompts differs by"), "{page}");
}

one_test_per_sampling_method! {
    says_how_far_the_reward_of_held_out_prompts_has_come: super::assert_says_how_far_the_reward_has_come
}

#[test]
fn a_policy_that_stays_gains_nothing_whatever_the_iteration_and_the_batch() {
    let world = world(method("ddpo"));
    let sets = with(&["train.steps=6", "optim.lr=1e-30"]);
    for batch in ["rollout.batch=1", "rollout.batch=4"] {
        let lines = metrics(&world.trained("run", &[&sets[..], &[batch]].concat()));
        for line in [&lines[1], &lines[3], &lines[5]] {
            assert!(NAMES.iter().all(|name| number(line, &format!("{name}_gain")).abs() < 1e-9), "{line}");
        }
        std::fs::remove_dir_all(world.run_dir()).unwrap();
    }
}

#[test]
fn a_resumed_run_measures_against_the_same_start() {
    for sets in [&["lora.rank=2"][..], &["lora.rank=0", "optim.lr=1e-4", "ema.decay=0.5"]] {
        let world = world(method("ddpo"));
        let whole = world.trained("whole", &with(&[sets, &["train.steps=6"]].concat()));
        world.trained("run", &with(&[sets, &["train.steps=3"]].concat()));
        let all = with(&[sets, &["train.steps=6"]].concat());
        let arguments: Vec<&str> = ["--resume"].into_iter().chain(all.iter().flat_map(|set| ["--set", *set])).collect();
        succeeds(&mut world.train(&arguments));
        // The first run validates at its last step too.
        let without_third = |run: &Path| {
            let mut lines = timeless(run);
            lines.remove(2);
            lines
        };
        assert_eq!(without_third(&world.run_dir()), without_third(&whole), "{sets:?}");
        assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")), "{sets:?}");
    }
}

#[test]
fn prompts_that_are_trained_on_too_are_named_and_unknown_ones_refused() {
    let world = world(method("ddpo"));
    let said = |sets: &[&str], code: i32| {
        let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        world.refused(&mut world.train(&arguments), code)
    };
    let unknown = said(&["validate.prompts=[\"red aple\"]"], 1);
    assert!(unknown.contains("scorer \"content\" cannot rate: the prompt \"red aple\""), "{unknown}");
    assert!(!world.run_dir().join("metrics.jsonl").exists());
    let arguments =
        ["--set", "validate.prompts=[\"black cat\", \"hot pepper\"]", "--set", "rollout.prompts_per_iteration=2"];
    let said = succeeds(&mut world.train(&arguments));
    assert!(
        said.contains("validate.prompts: 2 of 2 prompts are trained on too, \"black cat\" for one: their rewards predict little for other prompts"),
        "{said}"
    );
}

/// A model whose sampler adds no noise in its last step.
fn without_last_noise(world: &World) -> String {
    let dir = world.path("model");
    copy(&support::model(), &dir);
    let file = dir.join("scheduler/scheduler_config.json");
    let mut config = support::json(&file);
    config["set_alpha_to_one"] = true.into();
    std::fs::write(&file, config.to_string()).unwrap();
    format!("model.path={:?}", dir.display().to_string())
}

#[test]
fn steps_of_which_none_adds_noise_are_refused_before_anything_is_sampled() {
    for (name, sets, remedy) in [
        ("ddpo", &["rollout.steps=1"][..], "Raise rollout.steps."),
        ("dense-reward", &["rollout.steps=1"], "Raise rollout.steps."),
        ("spo", &["rollout.steps=2"], "Raise rollout.steps or lower method.skip_steps."),
    ] {
        let world = world(method(name));
        let model = without_last_noise(&world);
        let sets = [&[model.as_str()], sets].concat();
        let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        let said = world.refused(&mut world.train(&arguments), 2);
        let expected =
            format!("the last step of this model's sampler adds no noise, so no step is left to train on. {remedy}");
        assert!(said.contains(&expected), "{name}: {said}");
        // With one step more there is something to train.
        let more = sets.last().unwrap().replace('2', "3").replace('1', "2");
        world.trained("run", &[&sets[..sets.len() - 1], &[more.as_str()]].concat());
    }
}
