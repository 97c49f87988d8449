//! Recipes of methods that sample while they train: the demo's train, the published ones say what docs/methods.md says.

use crate::support::each::{one_test_each, one_test_per_sampling_method};
use crate::support::recipes::{items_a_step, number, planned, recipe, text, train};
use crate::support::{self, golden, root};
use serde_json::Value;
use std::path::Path;

/// Methods with trajectories, prompts and scorers.
const NAMES: &[&str] = sd15_recipe_is_taken::NAMES;

#[test]
fn demo_recipes_sample_few_pictures_in_few_steps_and_watch_another_scorer() {
    for name in NAMES {
        let recipe = recipe(name, "demo");
        let rollout = ["prompts_per_iteration", "trajectories", "steps"].map(|key| number(&recipe, "rollout", key));
        // Methods of trajectories compare the pictures of a prompt, the others candidates of a step.
        let expected = match name {
            &"ddpo" | &"dpok" | &"grpo" => [4.0, 8.0, 6.0],
            _ => [8.0, 2.0, 10.0],
        };
        assert_eq!(rollout, expected.map(Some), "{name}");
        let scorers = |key: &str| -> Vec<String> {
            let scorers = recipe["reward"][key].as_array().unwrap();
            scorers.iter().map(|scorer| scorer["name"].as_str().unwrap().to_string()).collect()
        };
        assert_eq!(scorers("scorers"), ["background"], "{name}");
        assert_eq!(scorers("watch"), ["nearest_drawing"; 2], "{name}: the one that is not trained on");
        let held_out = std::fs::read_to_string(root().join("assets/testbed/prompts-heldout.txt")).unwrap();
        let shown = recipe["sample"]["prompts"].as_array().unwrap();
        assert_eq!(text(&recipe, "validate", "prompts"), Some("assets/testbed/prompts-heldout.txt"), "{name}");
        let (steps, every) = (number(&recipe, "train", "steps"), number(&recipe, "validate", "every"));
        assert_eq!(steps.unwrap() % every.unwrap(), 0.0, "{name}: the last validation stands apart");
        assert!(shown.len() <= 4 && recipe["sample"]["seeds"].as_array().unwrap().len() == 1, "{name}");
        assert!(shown.iter().all(|prompt| held_out.lines().any(|line| Some(line) == prompt.as_str())), "{name}");
    }
}

fn assert_trains(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut sets: Vec<(&str, String)> = [
        ("train.steps", "1"),
        ("sample.every", "0"),
        ("validate.every", "0"),
        ("rollout.prompts_per_iteration", "1"),
        // Two steps alone are branched, so that candidates take seconds.
        ("rollout.steps", "4"),
    ]
    .map(|(key, value)| (key, value.to_string()))
    .into();
    let own = match name {
        "d3po" => "implicit_acc",
        "dpok" => "noise_pred_drift",
        _ => "kl",
    };
    if name == "spo" {
        sets.push(("method.threshold", "0.0".into()));
    }
    train(name, "demo", dir.path(), &sets).assert().success();
    let lines = support::metrics(&dir.path().join(name));
    assert_eq!(lines.len(), 1, "{name}");
    for key in
        [own, "loss", "rollout_reward", "score_background", "watch_nearest_drawing_2", "diversity", "clamped_fraction"]
    {
        assert!(lines[0][key].is_number(), "{name} has no {key}: {}", lines[0]);
    }
    assert!(dir.path().join(name).join("final/pytorch_lora_weights.safetensors").exists(), "{name}");
}

one_test_each!(demo_recipe_trains: super::assert_trains; d3po spo dpok grpo dense_reward("dense-reward"));

/// Win rates come from a rating scorer in the demo, and from a program that compares in the published form.
#[test]
fn pref_grpo_trains_on_win_rates_of_ratings_and_of_comparisons() {
    let dir = tempfile::tempdir().unwrap();
    let short = [
        ("train.steps", "1"),
        ("sample.every", "0"),
        ("validate.every", "0"),
        ("rollout.prompts_per_iteration", "1"),
        ("rollout.trajectories", "4"),
        ("rollout.steps", "3"),
        ("train.pairs_per_step", "4"),
        ("train.micro_batch", "2"),
    ];
    let mut sets: Vec<(&str, String)> = short.map(|(key, value)| (key, value.to_string())).into();
    for (name, judge) in [
        ("ratings", None),
        (
            "comparisons",
            Some("[{name=\"command\", path=\"python3 docs/examples/brightness.py\", answers=\"compare\"}]"),
        ),
    ] {
        sets.extend(judge.map(|judge| ("reward.pairwise", judge.to_string())));
        let out = dir.path().join(name);
        train("pref-grpo", "demo", &out, &sets).assert().success();
        let lines = support::metrics(&out.join("pref-grpo"));
        assert!(lines[0]["loss"].is_number() && lines[0]["idle_groups"] == 0, "{name}: {}", lines[0]);
        assert!(lines[0]["watch_background"].is_number(), "{name}: {}", lines[0]);
    }
}

#[test]
fn the_demo_recipe_of_self_npo_trains() {
    let dir = tempfile::tempdir().unwrap();
    // It holds nothing out.
    let short = [("train.steps", "1".to_string()), ("sample.every", "0".to_string())];
    train("self_npo", "demo", dir.path(), &short).assert().success();
    assert!(support::metrics(&dir.path().join("self_npo"))[0]["loss"].as_f64().unwrap() > 0.0);
}

/// docs/methods.md 20, Defaults, and section 3's table: rate, units a step, rank.
fn published(name: &str, family: &str) -> (f64, f64, f64) {
    let by = |sd15: f64, sdxl: f64| if family == "sdxl" { sdxl } else { sd15 };
    match name {
        "d3po" | "ddpo" | "dpok" => (3e-5, 20.0, 4.0),
        "grpo" => (1e-4, by(704.0, 352.0), 32.0),
        "spo" | "tailorpo" => (by(6e-5, 1e-5), by(40.0, 16.0), by(4.0, 64.0)),
        _ => (2e-5, 32.0, 32.0),
    }
}

/// Dry runs on a model of the family's shape and little width, with a small scorer in the layout of the recipe's own.
fn assert_is_taken(name: &str, family: &str, model: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let prompts = dir.path().join("prompts.txt");
    std::fs::write(&prompts, (0..2000).map(|i| format!("number {i}\n")).collect::<String>()).unwrap();
    let recipe = recipe(name, family);
    let scorer = recipe["reward"]["scorers"][0]["name"].as_str().unwrap();
    // Both read the same folder.
    let folder = golden("scorers").join(if scorer == "pickscore" { "clip" } else { scorer });
    let scorers = format!("[{{name={scorer:?},path={:?}}}]", folder.display().to_string());
    let (rate, units, rank) = published(name, family);
    let numbers = [number(&recipe, "optim", "lr"), Some(items_a_step(&recipe)), number(&recipe, "lora", "rank")];
    assert_eq!(numbers, [Some(rate), Some(units), Some(rank)], "{name}-{family}");
    assert_eq!(text(&recipe, "train", "gradient_checkpointing"), (family == "sdxl").then_some("blocks"), "{name}");
    let sets = [
        ("model.path", model.display().to_string()),
        ("rollout.prompts", prompts.display().to_string()),
        ("reward.scorers", scorers),
        ("train.threads", "1".to_string()),
    ];
    let plan = planned(name, family, dir.path(), &sets);
    assert_eq!(plan["pairs_per_step"].as_f64(), Some(units), "{name}");
    assert_eq!(plan["rollout"]["prompts_per_iteration"].as_f64(), number(&recipe, "rollout", "prompts_per_iteration"));
    assert!(plan["rollout"]["buffer_mib"].as_f64().unwrap() > 0.0, "{name}: {plan}");
    // The weights that it names are not here.
    let refused = train(name, family, dir.path(), &sets[..2]).assert().failure();
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    let expected = format!("reward.scorers: cannot open the scorer \"{scorer}\": cannot find models/");
    assert!(said.contains(&expected), "{name}: {said}");
}

fn assert_sd15_takes(name: &str) {
    assert_is_taken(name, "sd15", &support::model());
}

fn assert_sdxl_takes(name: &str) {
    assert_is_taken(name, "sdxl", &golden("families/sdxl"));
}

one_test_per_sampling_method!(sd15_recipe_is_taken: super::assert_sd15_takes);
one_test_per_sampling_method!(sdxl_recipe_is_taken: super::assert_sdxl_takes);

#[test]
fn self_npo_has_the_published_guidance_of_each_family_and_reads_no_losers() {
    let dir = tempfile::tempdir().unwrap();
    let guidance = |family: &str| number(&recipe("self_npo", family), "method", "guidance");
    assert_eq!((guidance("sd15"), guidance("sdxl")), (Some(-1.0), Some(-5.0)));
    let plan: Value = planned("self_npo", "demo", dir.path(), &[]);
    assert_eq!((plan["method"].as_str(), plan["missing_images"].as_u64()), (Some("self_npo"), Some(0)));
    assert!(plan.get("rollout").is_none(), "{plan}");
}
