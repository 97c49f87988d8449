//! A run that was killed or stopped and resumed ends with the bytes of the run that never was: promise 1 of
//! docs/determinism.md. And what `--resume` refuses.

use crate::support::{self, World, copy, files, flags, metrics, names, succeeds, timeless};
use std::path::Path;

/// Four steps of 8 pairs out of 12: step 3 lies in the second epoch. With EMA, a LoRA to go on from, and validation.
const LONG: [&str; 9] = [
    "train.steps=4",
    "train.micro_batch=1",
    "train.grad_accum=8",
    "train.checkpoint_every=2",
    "lora.rank=4",
    "ema.decay=0.5",
    "validate.every=2",
    "validate.max_pairs=3",
    "validate.fraction=0.25",
];

fn long_world() -> World {
    let world = World::new(16);
    std::fs::write(world.path("run.toml"), with_sets(&world)).unwrap();
    world
}

/// The config of `world` with `LONG` and the golden LoRA as its start written into it.
fn with_sets(world: &World) -> String {
    let mut table: toml::Table = std::fs::read_to_string(world.path("run.toml")).unwrap().parse().unwrap();
    let init = format!("lora.init={:?}", support::lora().display().to_string());
    for set in LONG.into_iter().chain([init.as_str()]) {
        let (path, value) = set.split_once('=').unwrap();
        let (section, key) = path.split_once('.').unwrap();
        let entry = table.entry(section).or_insert_with(|| toml::Table::new().into());
        entry.as_table_mut().unwrap().insert(key.into(), value.parse().unwrap());
    }
    table.to_string()
}

/// Everything that must be equal: weights in every layout, the newest checkpoint, the figures.
fn assert_same_run(a: &Path, b: &Path) {
    for part in ["final", "best", "checkpoint-000004"] {
        assert_eq!(files(&a.join(part)), files(&b.join(part)), "{part}");
    }
    assert_eq!(timeless(a), timeless(b));
}

#[test]
fn a_run_killed_in_the_second_epoch_amid_an_accumulation_ends_with_the_bytes_of_one_never_killed() {
    let world = long_world();
    let whole = world.trained("whole", &[]);
    // Past the validation and the checkpoint of step 2, after some of the micro-batches of step 3.
    let (code, said) = world.signalled("KILL train 2, validate 2 + 6", &[]);
    assert_eq!(code, None, "{said}");
    let killed = world.run_dir();
    assert_eq!(metrics(&killed).len(), 2, "step 3 was in hand");
    assert!(!killed.join("final").exists());

    // A copy to go on from with fresh optimizer state: it must end elsewhere, so that this test can fail.
    let fresh = world.path("fresh");
    copy(&killed, &fresh);
    support::zero_optimizer(&fresh.join("checkpoint-000002"));

    let said = succeeds(&mut world.train(&["--resume"]));
    assert!(said.contains("resuming at step 2"), "{said}");
    assert!(said.contains("train 3/4"), "{said}");
    assert_same_run(&killed, &whole);
    assert!(metrics(&killed)[3]["epoch"].as_f64().unwrap() > 2.0);

    let out = format!("train.out={:?}", fresh.display().to_string());
    succeeds(&mut world.train(&["--resume", "--set", &out]));
    assert_ne!(files(&fresh.join("final")), files(&whole.join("final")));
}

#[test]
fn a_run_killed_again_and_again_ends_with_the_bytes_of_one_never_killed() {
    let world = long_world();
    let (whole, out) = (world.trained("whole", &["train.checkpoint_every=1"]), world.run_dir());
    std::fs::remove_dir_all(world.path("cache")).unwrap();
    // In every phase: encoding, the first accumulation, before a checkpoint, after one, validation, the second epoch.
    let points = [
        "encode 7",
        "train 0 + 5",
        "train 1",
        "train 1 + 5",
        "train 2, validate 1",
        "train 2",
        "train 3 + 7",
        "train 4",
    ];
    for point in points {
        let (code, said) =
            world.signalled(&format!("KILL {point}"), &["--resume=auto", "--set", "train.checkpoint_every=1"]);
        assert_eq!(code, None, "{point}: {said}");
    }
    succeeds(&mut world.train(&["--resume=auto", "--set", "train.checkpoint_every=1"]));
    assert_same_run(&out, &whole);
    assert!(names(&out).iter().all(|name| !name.starts_with('.')), "{:?}", names(&out));
}

#[test]
fn a_run_stopped_amid_an_accumulation_keeps_its_last_step_and_its_auto_beta() {
    let world = World::new(24);
    let sets = ["method.beta=\"auto\"", "train.grad_accum=12", "train.micro_batch=1", "train.steps=16"];
    let whole = world.trained("whole", &sets);
    let (code, said) = world.signalled("TERM train 12 + 5", &flags(&sets));
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("step 12 is checkpointed"), "{said}");
    assert_eq!(metrics(&world.run_dir()).len(), 12);
    let resumed: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).chain(["--resume"]).collect();
    succeeds(&mut world.train(&resumed));
    assert_eq!(timeless(&world.run_dir()), timeless(&whole));
    let beta = |i: usize| metrics(&whole)[i]["beta"].as_f64().unwrap();
    assert!(beta(9) == 5000.0 && beta(13) != 5000.0, "beta moves after step 10");
    assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")));
}

#[test]
fn a_full_fine_tune_resumes_to_the_same_bytes() {
    let world = World::new(12);
    let sets = ["lora.rank=0", "optim.lr=1e-4", "ema.decay=0.9", "train.checkpoint_every=1"];
    let whole = world.trained("whole", &[&sets[..], &["train.steps=3"]].concat());
    world.trained("run", &[&sets[..], &["train.steps=1"]].concat());
    let mut resume = vec!["--resume"];
    resume.extend(sets.iter().flat_map(|s| ["--set", s]));
    succeeds(&mut world.train(&resume));
    assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")));
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_replaced_and_pushes_no_whole_one_out() {
    let world = World::new(12);
    let sets = ["train.checkpoint_every=2", "train.steps=4", "train.keep_last=2"];
    let whole = world.trained("whole", &[&sets[..], &["train.steps=5"]].concat());
    let run = world.trained("run", &sets);
    let damaged = run.join("checkpoint-000004/optimizer.safetensors");
    let bytes = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, &bytes[..bytes.len() - 9]).unwrap();
    let resume =
        ["--resume", "--set", "train.checkpoint_every=1", "--set", "train.keep_last=1", "--set", "train.steps=3"];
    let said = succeeds(&mut world.train(&resume));
    assert!(
        said.contains("passing over") && said.contains("checkpoint-000004: optimizer.safetensors is damaged"),
        "{said}"
    );
    assert!(said.contains("resuming at step 2"), "{said}");
    assert!(run.join("checkpoint-000003/state.json").exists(), "the only whole one was rotated away");
    succeeds(&mut world.train(&["--resume", "--set", "train.steps=5"]));
    assert_eq!(files(&run.join("final")), files(&whole.join("final")));
    assert_eq!(timeless(&run), timeless(&whole));
}

#[test]
fn a_finished_run_says_so_and_auto_starts_or_resumes() {
    let world = World::new(12);
    let said = succeeds(&mut world.train(&["--resume=auto"]));
    assert!(said.contains("finished at step 3"), "{said}");
    let before = files(&world.run_dir().join("final"));
    for flag in ["--resume", "--resume=auto"] {
        let said = succeeds(&mut world.train(&[flag]));
        assert!(said.contains("already at step 3"), "{said}");
    }
    assert_eq!(files(&world.run_dir().join("final")), before);
    let said = succeeds(&mut world.train(&["--resume", "--set", "train.steps=4"]));
    assert!(said.contains("resuming at step 3") && said.contains("finished at step 4"), "{said}");
    assert_eq!(metrics(&world.run_dir()).len(), 4);
}

#[test]
fn a_run_killed_between_its_last_checkpoint_and_final_is_finished_by_a_resume() {
    let world = World::new(12);
    let run = world.trained("run", &[]);
    let last = files(&run.join("final"));
    std::fs::remove_dir_all(run.join("final")).unwrap();
    std::fs::create_dir(run.join(".unfinished-abc")).unwrap();
    let said = succeeds(&mut world.train(&["--resume"]));
    assert!(said.contains("resuming at step 3") && said.contains("finished at step 3"), "{said}");
    assert_eq!(files(&run.join("final")), last);
    assert!(names(&run).iter().all(|name| !name.starts_with('.')));
}

#[test]
fn a_torn_metrics_line_is_cut_and_no_step_stands_twice() {
    let world = World::new(12);
    let whole = world.trained("whole", &[]);
    let run = world.trained("run", &["train.steps=2", "train.checkpoint_every=1"]);
    // A power cut in step 3 after a kill in step 2: a step beyond the checkpoint, then half a line that is not UTF-8.
    let mut bytes = std::fs::read(run.join("metrics.jsonl")).unwrap();
    bytes.extend(b"{\"step\":3,\"loss\":1}\n{\"step\":4,\xff\xfe\0\0");
    std::fs::write(run.join("metrics.jsonl"), bytes).unwrap();
    succeeds(&mut world.train(&["--resume"]));
    assert_eq!(timeless(&run), timeless(&whole));
}

#[test]
fn nothing_to_resume_is_refused_and_makes_no_folder() {
    let world = World::new(12);
    let said = world.refused(&mut world.train(&["--resume"]), 1);
    assert!(
        said.contains("DIR/run: nothing to resume: there is no run in this folder. Start it without --resume"),
        "{said}"
    );
    assert!(!world.run_dir().exists());
    std::fs::create_dir(world.run_dir()).unwrap();
    let said = world.refused(&mut world.train(&["--resume"]), 1);
    assert!(said.contains("DIR/run: nothing to resume"), "{said}");
}

#[test]
fn resuming_with_another_configuration_names_the_key_and_both_values() {
    let world = World::new(12);
    let run = world.trained("run", &["train.steps=2"]);
    let before = files(&run);
    for (set, key, then, now) in [
        ("optim.lr=2e-2", "optim.lr", "0.01", "0.02"),
        ("method.beta=900", "method.beta", "500.0", "900.0"),
        ("train.seed=1", "train.seed", "0", "1"),
        ("lora.rank=3", "lora.rank", "2", "3"),
        ("train.grad_accum=4", "train.grad_accum", "2", "4"),
        ("ema.decay=0.5", "ema.decay", "0.0", "0.5"),
        ("data.flip=0", "data.flip", "0.5", "0.0"),
        ("method.name=sft", "method.name", "\"dpo\"", "\"sft\""),
    ] {
        let said = world.refused(&mut world.train(&["--resume", "--set", set]), 2);
        assert!(said.contains(&format!("{key}: the run has {then}, the config has {now}")), "{set}: {said}");
        assert!(said.contains("DIR/run: cannot resume with another configuration"), "{said}");
    }
    let mut after = files(&run);
    after.insert("run.lock".into(), before["run.lock"].clone()); // it names the last process
    assert_eq!(after, before, "a refused resume changed the run");
}

#[test]
fn a_schedule_that_reads_the_number_of_steps_refuses_another_one() {
    let world = World::new(12);
    world.trained("run", &["optim.schedule=cosine"]);
    let resume = ["--resume", "--set", "optim.schedule=cosine", "--set", "train.steps=9"];
    let said = world.refused(&mut world.train(&resume), 2);
    assert!(said.contains("train.steps: the run has 3, the config has 9"), "{said}");
}

#[test]
fn changes_that_only_round_are_said_and_taken() {
    let world = World::new(12);
    world.trained("run", &["train.steps=2"]);
    let resume = ["train.micro_batch=4", "train.grad_accum=1", "train.threads=2", "data.workers=1", "train.steps=3"];
    let resume: Vec<&str> = resume.iter().flat_map(|s| ["--set", s]).chain(["--resume"]).collect();
    let said = succeeds(&mut world.train(&resume));
    for key in ["train.micro_batch", "train.grad_accum", "train.threads", "data.workers"] {
        assert!(said.lines().any(|l| l.starts_with(key) && l.ends_with("equal up to rounding")), "{key}: {said}");
    }
    assert_eq!(metrics(&world.run_dir()).len(), 3);
}

#[test]
fn paths_may_move_when_their_content_is_equal() {
    let world = World::new(12);
    let whole = world.trained("whole", &["train.steps=3"]);
    world.trained("run", &["train.steps=2"]);
    std::fs::rename(world.path("data"), world.path("moved")).unwrap();
    copy(&support::model(), &world.path("model"));
    std::fs::rename(world.run_dir(), world.path("elsewhere")).unwrap();
    let set = |key: &str, name: &str| format!("{key}={:?}", world.path(name).display().to_string());
    let sets = [set("data.path", "moved/pairs.jsonl"), set("model.path", "model"), set("train.out", "elsewhere")];
    let resume: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).chain(["--resume"]).collect();
    let said = succeeds(&mut world.train(&resume));
    assert!(said.contains("resuming at step 2"), "{said}");
    // The model card names the model's path.
    let weights = |run: &Path| files(&run.join("final"))["pytorch_lora_weights.safetensors"].clone();
    assert_eq!(weights(&world.path("elsewhere")), weights(&whole));
}

#[test]
fn content_that_changed_under_the_same_path_is_refused() {
    let world = World::new(12);
    copy(&support::model(), &world.path("model"));
    let model = format!("model.path={:?}", world.path("model").display().to_string());
    world.trained("run", &[&model, "train.steps=2"]);
    let resume = ["--resume", "--set", &model];

    let picture = world.path("data/w3.png");
    let original = std::fs::read(&picture).unwrap();
    std::fs::copy(world.path("data/w4.png"), &picture).unwrap();
    let said = world.refused(&mut world.train(&resume), 1);
    assert!(said.contains("images of data.path = \"DIR/data/pairs.jsonl\" have changed since the run began"), "{said}");
    std::fs::write(&picture, original).unwrap();

    let scheduler = world.path("model/scheduler/scheduler_config.json");
    let text = std::fs::read_to_string(&scheduler).unwrap();
    std::fs::write(&scheduler, text.replace("0.012", "0.013")).unwrap();
    let said = world.refused(&mut world.train(&resume), 1);
    assert!(said.contains("DIR/run: cannot resume: what model.path names has changed since the run began"), "{said}");
    std::fs::write(&scheduler, text).unwrap();

    let rows = std::fs::read_to_string(world.pairs()).unwrap();
    std::fs::write(world.pairs(), rows.replace("number 5", "no. 5")).unwrap();
    let said = world.refused(&mut world.train(&resume), 1);
    assert!(said.contains("what data.path names has changed"), "{said}");
}
