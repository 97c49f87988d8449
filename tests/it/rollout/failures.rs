//! What can go wrong while a method samples: scorers without a number, weights that ran away, iterations that keep
//! nothing, buffers that are damaged or do not fit, rewards that are hacked. The last step is never lost.

use crate::support::sampling::{Method, judge, method, world};
use crate::support::{self, World, files, flags, json as read_json, metrics, names, succeeds, timeless};
use pipelines::weights::{TensorFile, write_safetensors};
use serde_json::{Value, json};
use std::path::Path;

fn resume<'a>(sets: &[&'a str]) -> Vec<&'a str> {
    [&["--resume"][..], &flags(sets)].concat()
}

/// The newest checkpoint.
fn newest(run: &Path) -> String {
    names(run).into_iter().rfind(|name| name.starts_with("checkpoint-")).unwrap()
}

#[test]
fn a_scorer_without_a_number_ends_the_run_names_picture_and_prompt_and_loses_no_step() {
    let world = world(method("ddpo"));
    // A judge whose weights are finite and whose last layer overflows.
    judge(&world.path("broken"), 1e20);
    let file = world.path("broken/model.safetensors");
    let weights = TensorFile::open(&file).unwrap();
    let enlarged = |name: &str| if name == "norms.1.weight" { 1e30 } else { 1.0 };
    let weights: Vec<_> =
        weights.names().map(|name| (name.to_string(), weights.tensor(name).unwrap() * enlarged(name))).collect();
    write_safetensors(&file, &weights, &[]).unwrap();
    let broken = format!("reward.scorers=[{{name=\"style\", path={:?}}}]", world.path("broken").display().to_string());
    let said = world.refused(&mut world.train_with(&[&broken]), 1);
    assert!(said.contains("error: iteration 0 was not sampled: scorer \"style\" rated picture 0 of 3 (counted from 0), for the prompt \""), "{said}");
    assert!(said.contains(": expected a finite number; the weights were not changed"), "{said}");
    assert!(!world.run_dir().join("final").exists());
    assert_eq!(newest(&world.run_dir()), "checkpoint-000000");
}

#[test]
fn weights_that_ran_away_end_the_run_before_their_pictures_are_rated_and_the_last_step_is_kept() {
    let world = world(method("ddpo"));
    let said = world.refused(&mut world.train_with(&["optim.lr=1e30", "train.steps=8"]), 1);
    // The first update throws the weights out of range; the next one, or the next iteration, sees it.
    assert!(said.contains("error: step 2: ") || said.contains("error: log-ratio of step "), "{said}");
    assert!(said.contains("the weights were not changed"), "{said}");
    assert!(said.contains("step 1 is checkpointed in DIR/run"), "{said}");
    let one = ["train.grad_accum=8", "optim.lr=1e30", "train.steps=8"];
    let said = world.refused(&mut world.train_with(&[&one[..], &["train.overwrite=true"]].concat()), 1);
    assert!(said.contains("error: iteration 1 was not sampled: latents of a picture for the prompt \""), "{said}");
    assert!(said.contains("left the range of numbers. Start another run with a lower optim.lr or in float32; the weights were not changed"), "{said}");
    assert!(said.contains("step 1 is checkpointed in DIR/run; continue with --resume"), "{said}");
    assert_eq!((newest(&world.run_dir()).as_str(), metrics(&world.run_dir()).len()), ("checkpoint-000001", 1));
}

#[test]
fn iterations_that_keep_nothing_are_passed_over_and_twenty_of_them_end_the_run() {
    let world = world(method("spo"));
    let said = world.refused(&mut world.train_with(&["method.threshold=0.9999999999"]), 1);
    assert!(said.contains("error: 20 iterations in a row kept nothing to train on: no candidates of a step were further apart than method.threshold. Look at [reward], and lower the threshold; more candidates or another seed may help too."), "{said}");
    let state = read_json(&world.run_dir().join("checkpoint-000000/state.json"));
    assert_eq!((&state["rollout"]["iteration"], &state["rollout"]["empty"]), (&json!(20), &json!(20)));

    // d3po has ties where the judge always says the same: the other prompts are trained on.
    let world = support::sampling::world(method("d3po"));
    judge(&world.path("flat"), 0.0);
    let flat = format!("reward.scorers=[{{name=\"style\", path={:?}}}]", world.path("flat").display().to_string());
    let said = world.refused(&mut world.train_with(&[&flat]), 1);
    assert!(
        said.contains("20 iterations in a row kept nothing to train on: all rewards of every prompt were equal."),
        "{said}"
    );
}

/// Trains six steps of eight with the buffer on disk, a checkpoint each: amid the second iteration.
fn on_disk(method: Method) -> World {
    let world = world(method);
    let sets = ["rollout.buffer=disk", "train.checkpoint_every=1", "train.keep_last=2", "train.steps=6"];
    world.trained("run", &sets);
    world
}

const ON: [&str; 4] = ["rollout.buffer=disk", "train.checkpoint_every=1", "train.keep_last=2", "train.steps=8"];

#[test]
fn a_buffer_on_disk_is_named_by_its_checkpoints_and_goes_with_the_last_of_them() {
    let world = on_disk(method("ddpo"));
    let run = world.run_dir();
    // Two prompts with two trajectories each, three at a time: two files of the iteration in hand, none of the one before.
    assert_eq!(names(&run.join("rollouts")), ["iteration-000001"]);
    let state = read_json(&run.join("checkpoint-000006/state.json"));
    let named: Vec<&String> = state["rollout"]["files"].as_object().unwrap().keys().collect();
    assert_eq!(
        named,
        ["rollouts/iteration-000001/part-000000.safetensors", "rollouts/iteration-000001/part-000001.safetensors"]
    );
    assert!(!run.join("checkpoint-000006/rollout.safetensors").exists());
    // Files that nobody wrote stay, and disturb nothing.
    std::fs::write(run.join("rollouts/notes.txt"), "mine").unwrap();
    std::fs::write(run.join("rollouts/iteration-000001/.DS_Store"), "not mine").unwrap();
    let whole = world.trained("whole", &["train.steps=8"]);
    succeeds(&mut world.train(&resume(&ON)));
    assert_eq!(files(&run.join("final")), files(&whole.join("final")));
    assert_eq!(timeless(&run), timeless(&whole));
    // The buffer of iteration 1 stays while the checkpoint of step 7 names it.
    assert_eq!(names(&run.join("rollouts")), ["iteration-000001", "notes.txt"]);
    succeeds(&mut world.train(&resume(&[&ON[..3], &["train.steps=10"]].concat())));
    assert_eq!(names(&run.join("rollouts")), ["iteration-000002", "notes.txt"]);
    // A run that is written over takes its buffers with it.
    succeeds(&mut world.train_with(&["train.overwrite=true"]));
    assert!(!run.join("rollouts").exists(), "{:?}", names(&run));
}

#[test]
fn a_damaged_or_missing_buffer_file_makes_its_checkpoints_be_passed_over() {
    let world = on_disk(method("ddpo"));
    let whole = world.trained("whole", &["train.steps=8"]);
    let run = world.run_dir();
    let checkpoints = |at: &str| support::copy(&run, &world.path(at));
    checkpoints("damaged");
    checkpoints("missing");
    let part = |at: &str| world.path(at).join("rollouts/iteration-000001/part-000001.safetensors");
    let mut bytes = std::fs::read(part("damaged")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(part("damaged"), bytes).unwrap();
    std::fs::remove_file(part("missing")).unwrap();
    for (at, why) in [("damaged", "of the run is damaged: sha256 "), ("missing", "cannot open ")] {
        let out = format!("train.out={:?}", world.path(at).display().to_string());
        let said = succeeds(&mut world.train(&resume(&[&ON[..], &[&out]].concat())));
        for step in ["checkpoint-000006", "checkpoint-000005"] {
            let line = said.lines().find(|line| line.contains("passing over") && line.contains(step));
            let line = line.unwrap_or_else(|| panic!("{at} {step}: {said}"));
            assert!(line.contains("rollouts/iteration-000001/part-000001.safetensors") && line.contains(why), "{line}");
        }
        assert!(said.contains("no whole checkpoint yet: starting at step 1 again"), "{said}");
        assert_eq!(files(&world.path(at).join("final")), files(&whole.join("final")), "{at}");
        assert_eq!(timeless(&world.path(at)), timeless(&whole), "{at}");
    }
}

#[test]
fn the_buffer_may_move_between_memory_and_disk_on_resume() {
    let world = on_disk(method("ddpo"));
    let whole = world.trained("whole", &["train.steps=12"]);
    let sets = |buffer, steps| [buffer, "train.checkpoint_every=1", steps];
    let said = succeeds(&mut world.train(&resume(&sets("rollout.buffer=memory", "train.steps=10"))));
    assert!(said.contains("rollout.buffer") && said.contains("equal up to rounding"), "{said}");
    assert!(world.run_dir().join("checkpoint-000010/rollout.safetensors").exists());
    succeeds(&mut world.train(&resume(&sets("rollout.buffer=disk", "train.steps=12"))));
    assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")));
    assert_eq!(timeless(&world.run_dir()), timeless(&whole));
}

#[test]
fn a_buffer_that_does_not_fit_is_refused_before_anything_is_sampled() {
    let world = world(method("ddpo"));
    // 131072 trajectories of 500 steps, each state 4 x 512 x 512 numbers.
    let sets = ["rollout.trajectories=65536", "rollout.steps=500", "data.resolution=1024"];
    let said = world.refused(&mut world.train_with(&sets), 2);
    assert!(
        said.contains("rollout.buffer = \"memory\": what an iteration keeps takes up to 256512.00 GiB, and "),
        "{said}"
    );
    assert!(said.contains(" are free. Set rollout.buffer = \"disk\", or lower rollout.prompts_per_iteration, rollout.trajectories or rollout.steps."), "{said}");
    let huge = [&sets[..], &["rollout.buffer=disk"]].concat();
    let said = world.refused(&mut world.train_with(&huge), 1);
    assert!(
        said.contains("rollout.buffer = \"disk\" needs ")
            && said.contains("free space there, or lower rollout.prompts_per_iteration"),
        "{said}"
    );
    assert!(!world.run_dir().join("rollouts").exists());
}

#[test]
fn a_hacked_reward_is_told_once_while_it_happens_and_the_verdict_names_it() {
    let world = world(method("ddpo"));
    // One step an iteration.
    let sets = |steps| ["train.grad_accum=8", "train.checkpoint_every=1", "optim.lr=1e-6", steps];
    let run = world.trained("run", &sets("train.steps=9"));
    let number = |line: &Value, key: &str| line[key].as_f64().unwrap();
    let mut lines = metrics(&run);
    // As of a policy that games its scorer: up to where it is now the reward rose, and what is only watched fell.
    let now = lines[8].clone();
    for (i, line) in lines.iter_mut().enumerate() {
        let before = 20.0 * (8 - i) as f64;
        line["rollout_reward"] = json!(number(&now, "rollout_reward") - before);
        line["watch_content"] = json!(number(&now, "watch_content") + before);
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(run.join("metrics.jsonl"), text).unwrap();
    let said = succeeds(&mut world.train(&resume(&sets("train.steps=12"))));
    assert_eq!(said.matches("warning: the reward is being hacked: ").count(), 1, "{said}");
    assert!(said.contains("Look at the samples."), "{said}");
    let report = read_json(&run.join("report.json"));
    assert_eq!(report["verdict"]["state"], "reward_hacked", "{}", report["verdict"]);
    let reasons = report["verdict"]["reasons"].to_string();
    assert!(reasons.contains("The reward of the samples rose from "), "{reasons}");
    assert!(reasons.contains("content, which is not trained on, fell from "), "{reasons}");
}
