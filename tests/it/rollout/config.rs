//! [rollout] and [reward] through the real binary: what methods that sample while they train read and refuse, files of
//! prompts, scorers, and what may change on resume. Nothing is written by a refused run.

use crate::support::{self, Messages, World, json, model, succeeds};
use serde_json::Value;
use std::path::Path;

/// A world without pairs in its configuration: two prompts that the judge knows, rated by its style.
fn world(method: &str, rollout: &str) -> World {
    let world = World::new(4);
    let [cache, out] = ["cache", "run"].map(|name| world.path(name).display().to_string());
    std::fs::write(
        world.path("run.toml"),
        format!(
            "[model]\npath = \"{}\"\ndevice = \"cpu\"\n\
             [data]\nresolution = 16\ncache_dir = \"{cache}\"\nworkers = 2\n\
             [method]\nname = \"{method}\"\n\
             [lora]\nrank = 2\n\
             [optim]\nlr = 1e-2\n\
             [train]\nout = \"{out}\"\nsteps = 1\nmicro_batch = 2\ngrad_accum = 2\nthreads = 1\n\
             [sample]\nevery = 0\n\
             [log]\ntensorboard = false\n\
             {rollout}",
            model().display()
        ),
    )
    .unwrap();
    world
}

const PROMPTS: &str = "[rollout]\nprompts = [\"chestnut\", \"tomato\"]\n";

fn judge() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/judge").display().to_string()
}

/// Four steps of two trajectories, rated by the judge's style.
fn online(method: &str) -> World {
    let judge = judge();
    world(
        method,
        &format!(
            "{PROMPTS}steps = 4\ntrajectories = 2\n[reward]\nscorers = [{{ name = \"style\", path = \"{judge}\" }}]\n"
        ),
    )
}

/// stderr of a dry run that is refused; nothing was written.
fn refused(world: &World, sets: &[&str], code: i32) -> String {
    let arguments: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).chain(["--dry-run"]).collect();
    let said = world.refused(&mut world.train(&arguments), code);
    assert!(!world.run_dir().exists(), "{sets:?}");
    said
}

/// The plan of a dry run, and what it said.
fn planned(world: &World, sets: &[&str]) -> (Value, String) {
    let mut command = world.train_with(sets);
    let output = command.args(["--dry-run", "--json"]).assert().success();
    let output = output.get_output();
    (serde_json::from_slice(&output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_method_that_samples_refuses_to_go_without_prompts_or_scorers() {
    let said = refused(&world("ddpo", ""), &[], 2);
    assert!(said.contains("DIR/run.toml: rollout.prompts is missing: what the method samples pictures of: a list of prompts, or a file of them. Add it under [rollout]."), "{said}");
    let said = refused(&world("spo", PROMPTS), &[], 2);
    assert!(said.contains("DIR/run.toml: reward.scorers is missing: who rates the pictures that the method samples. Add it under [reward]."), "{said}");
    let said = refused(&online("ddpo"), &["reward.scorers=[]"], 2);
    assert!(said.contains("--set reward.scorers: reward.scorers = []: expected a list of { name, weight = 1, measure, path }, at least one of them."), "{said}");
}

#[test]
fn what_a_method_that_samples_cannot_read_is_refused_with_the_reason() {
    let mut messages = Messages::default();
    for (method, set) in [
        ("ddpo", "data.path=pairs.jsonl"),
        ("dpok", "data.ties=keep"),
        ("d3po", "data.labels=score:a"),
        ("spo", "validate.fraction=0.1"),
        ("spo", "validate.draws=2"),
        ("tailorpo", "timesteps.law=discounted"),
        ("d3po", "safeguard.name=sdpo"),
        ("dense-reward", "weights.source=column"),
        ("d3po", "reference.kind=updated"),
        ("ddpo", "reference.kind=updated"),
    ] {
        let said = refused(&online(method), &[set], 2);
        messages.add(&format!("{method} {set}"), &said);
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn trajectories_that_a_method_cannot_learn_from_are_refused() {
    let mut messages = Messages::default();
    for (method, sets) in [
        ("d3po", &["rollout.trajectories=3"][..]),
        ("ddpo", &["rollout.eta=0"]),
        ("dense-reward", &["method.trajectories_per_loss=3"]),
        ("spo", &["rollout.steps=4"]),
        ("ddpo", &["rollout.trajectories=1", "reward.shaping=standardise"]),
        ("grpo", &["rollout.trajectories=3"]),
        ("grpo", &["rollout.trajectories=4", "rollout.eta=0.3"]),
        ("grpo", &["rollout.trajectories=4", "method.skip_last=4"]),
        ("spo", &["reward.pairwise=[{name=\"background\"}]"]),
        ("grpo", &["reward.pairwise=[{name=\"background\", answers=\"guess\"}]"]),
        ("grpo", &["reward.pairwise=[{name=\"background\", orders=3}]"]),
        ("grpo", &["reward.pairwise=[{name=\"background\", answers=\"compare\", sharpness=1}]"]),
        ("grpo", &["reward.pairwise=[{name=\"background\", tie_zone=0.1, sharpness=1}]"]),
        ("grpo", &["reward.pairwise=[{name=\"background\", tie_zone=-1}]"]),
        ("ddpo", &["rollout.prompts_per_iteration=3"]),
        ("ddpo", &["rollout.steps=1001"]),
        ("ddpo", &["rollout.trajectorys=2"]),
        ("ddpo", &["reward.shaping=normal"]),
        ("ddpo", &["reward.scorers=[{name=\"stile\", path=\"j\"}]"]),
    ] {
        let said = refused(&online(method), sets, 2);
        messages.add(&format!("{method} {sets:?}"), &said);
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn methods_of_items_refuse_rollout_and_reward() {
    let world = World::new(8);
    let why = "does not go with method.name = \"dpo\", which trains on the items of [data] and samples nothing while it trains. Remove the table.";
    for (set, table) in [("rollout.trajectories=4", "rollout"), ("reward.shaping=par", "reward")] {
        let said = refused(&world, &[set], 2);
        let (key, _) = set.split_once('=').unwrap();
        assert!(said.contains(&format!("--set {key}: [{table}] {why}")), "{said}");
    }
}

#[test]
fn self_npo_reads_items_or_prompts_by_where_it_starts() {
    let noise = world("self_npo", &format!("{PROMPTS}steps = 7\neta = 0\nguidance_scale = 3\n"));
    let (plan, said) = planned(&noise, &["method.start=noise"]);
    assert_eq!(plan["method"], "self_npo");
    for key in ["steps", "eta", "guidance_scale"] {
        assert!(said.contains(&format!("rollout.{key} of the config is not read by self_npo: dropped")), "{said}");
    }
    let said = refused(&noise, &[], 2);
    assert!(said.contains("[rollout] does not go with method.name = \"self_npo\", which reads [data] with method.start = \"data\". Remove the table."), "{said}");
    for (set, expected) in [
        (
            "data.path=pairs.jsonl",
            "data.path does not go with method.name = \"self_npo\", which reads rollout.prompts with method.start = \"noise\".",
        ),
        (
            "reward.shaping=par",
            "[reward] does not go with method.name = \"self_npo\", which rates no picture. Remove the table.",
        ),
        ("method.ema_decay=0", "method.ema_decay = 0: expected a number in (0, 1)."),
        (
            "ema.decay=0.9",
            "ema.decay = 0.9 does not go with method.name = \"self_npo\", which averages the weights itself: method.ema_decay. Remove the key.",
        ),
        (
            "rollout.trajectories=2",
            "rollout.trajectories does not go with method.name = \"self_npo\", whose steps of denoising are method.rollout_steps and method.guidance.",
        ),
    ] {
        let said = refused(&noise, &["method.start=noise", set], 2);
        assert!(said.contains(expected), "{set}: {said}");
    }
    let data = world("self_npo", "");
    let said = refused(&data, &[], 2);
    assert!(said.contains("data.path is missing: "), "{said}");
    let (plan, _) = planned(&data, &[&format!("data.path={:?}", data.pairs().display().to_string())]);
    assert_eq!(plan["train_pairs"], 4);
    // Labelled images, all of one class: their labels mean nothing here.
    let rows: String =
        (0..3).map(|i| format!("{{\"prompt\": \"a\", \"image\": \"w{i}.png\", \"label\": true}}\n")).collect();
    std::fs::write(data.path("data/labels.jsonl"), rows).unwrap();
    let (plan, _) = planned(&data, &[&format!("data.path={:?}", data.path("data/labels.jsonl").display().to_string())]);
    assert_eq!(plan["train_pairs"], 3);
    let lists = "{\"prompt\": \"a\", \"images\": [\"w0.png\", \"l0.png\"], \"ranks\": [1, 2]}\n";
    std::fs::write(data.path("data/lists.jsonl"), lists).unwrap();
    let path = format!("data.path={:?}", data.path("data/lists.jsonl").display().to_string());
    let said = refused(&data, &[&path], 2);
    assert!(
        said.contains("method.name = \"self_npo\" trains on pairs, and DIR/data/lists.jsonl holds lists."),
        "{said}"
    );
}

#[test]
fn an_epoch_of_a_method_that_samples_is_an_iteration() {
    let epochs = |method: &str, sets: &[&str]| {
        let world = online(method);
        let text = std::fs::read_to_string(world.path("run.toml")).unwrap();
        std::fs::write(world.path("run.toml"), text.replace("steps = 1\n", "epochs = 2\n")).unwrap();
        planned(&world, sets).0["steps"].as_u64().unwrap()
    };
    assert_eq!(epochs("ddpo", &[]), 8); // 2 x 2 prompts x 2 trajectories x 4 steps / 4
    assert_eq!(epochs("d3po", &[]), 4); // 2 x 2 prompts x 4 steps / 4
    assert_eq!(epochs("dense-reward", &["rollout.updates_per_iteration=3"]), 6);
    assert_eq!(epochs("spo", &["rollout.steps=8", "rollout.updates_per_iteration=5"]), 10);
    let world = online("spo");
    let text = std::fs::read_to_string(world.path("run.toml")).unwrap();
    std::fs::write(world.path("run.toml"), text.replace("steps = 1\n", "epochs = 2\n")).unwrap();
    let said = refused(&world, &["rollout.steps=8"], 2);
    assert!(said.contains("DIR/run.toml: train.epochs = 2: how many steps an iteration has depends on what its pictures are worth. Set train.steps, or rollout.updates_per_iteration."), "{said}");
}

#[test]
fn prompts_come_from_files_of_every_kind_each_once_and_blank_ones_are_passed_over() {
    let world = online("ddpo");
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(world.path(name), bytes).unwrap();
        format!("rollout.prompts={:?}", world.path(name).display().to_string())
    };
    let set = file("p.csv", "\u{feff}prompt,id\r\nchestnut,1\r\n,2\r\ntomato,3\r\nchestnut,4\r\n".as_bytes());
    let (plan, said) = planned(&world, &[&set]);
    assert_eq!((&plan["rollout"]["prompts"], &plan["rollout"]["prompts_per_iteration"]), (&2.into(), &2.into()));
    assert!(said.contains("rollout.prompts: 1 of 4 prompts are blank: passed over"), "{said}");
    assert!(said.contains("rollout.prompts: 1 of 4 prompts repeat an earlier one: each counts once"), "{said}");
    let said = refused(&world, &["rollout.prompts=nowhere.txt"], 2);
    assert!(said.contains("DIR/run.toml: rollout.prompts = \"nowhere.txt\": cannot read the file: No such file or directory (os error 2). Give a list, or a file of prompts."), "{said}");
    for (name, bytes, expected) in [
        (
            "l.txt",
            &b"chestnut\ncaf\xe9\n"[..],
            "rollout.prompts: DIR/l.txt row 2: byte 0xe9 is not UTF-8, this looks like ISO-8859-1; convert it: iconv",
        ),
        ("b.txt", b"\n \n", "rollout.prompts: DIR/b.txt holds no prompt"),
        (
            "b.csv",
            b"prompt,id\n,1\n ,2\n",
            "DIR/run.toml: rollout.prompts: all 2 prompts are blank; give prompts with text",
        ),
        (
            "j.jsonl",
            b"{\"prompt\": \"a\"}\n{\"promt\": \"b\"}\n",
            "rollout.prompts: DIR/j.jsonl row 2: no key prompt, caption, text, prompts; there are: promt",
        ),
        (
            "p.pickle",
            b"x",
            "rollout.prompts: DIR/p.pickle: cannot tell what it holds; expected a name ending in .txt, .csv, .tsv, .json, .jsonl or .parquet",
        ),
    ] {
        let set = file(name, bytes);
        let said = refused(&world, &[&set], 1);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_scorer_that_cannot_be_opened_or_does_not_know_a_prompt_is_refused_before_anything_is_sampled() {
    let world = online("ddpo");
    let missing =
        format!("reward.scorers=[{{name=\"style\", path={:?}}}]", world.path("nowhere").display().to_string());
    let said = refused(&world, &[&missing], 1);
    assert!(said.contains("reward.scorers: cannot open the scorer \"style\""), "{said}");
    assert!(
        said.contains("DIR/nowhere/config.json; a judge is a folder with config.json and model.safetensors"),
        "{said}"
    );
    let content = format!("reward.scorers=[{{name=\"content\", path={:?}}}]", judge());
    let said = refused(&world, &[&content, "rollout.prompts=[\"tomato\", \"chesnut\"]"], 1);
    assert!(said.contains("scorer \"content\" cannot rate: the prompt \"chesnut\" is none of the"), "{said}");
    assert!(said.contains("did you mean \"chestnut\"?"), "{said}");
    // Watching scorers must know them too.
    let watch = format!("reward.watch=[{{name=\"content\", path={:?}}}]", judge());
    let said = refused(&world, &[&watch, "rollout.prompts=[\"tomato\", \"chesnut\"]"], 1);
    assert!(said.contains("scorer \"content\" cannot rate: the prompt \"chesnut\""), "{said}");
}

#[test]
fn prompts_and_scorers_may_move_on_resume_and_may_not_change() {
    let world = online("ddpo");
    std::fs::write(world.path("p.txt"), "chestnut\ntomato\n").unwrap();
    support::copy(Path::new(&judge()), &world.path("judge"));
    let prompts = |name: &str| format!("rollout.prompts={:?}", world.path(name).display().to_string());
    let scorers = |path: &str, weight: f64| {
        format!(
            "reward.scorers=[{{name=\"style\", path={:?}, weight={weight}}}]",
            world.path(path).display().to_string()
        )
    };
    succeeds(&mut world.train_with(&[&prompts("p.txt"), &scorers("judge", 1.0)]));
    let recorded = json(&world.run_dir().join("environment.json"));
    assert!(recorded["contents"]["rollout.prompts"].is_string(), "{recorded}");
    assert_eq!(recorded["contents"]["reward.scorers"][0].as_array().unwrap().len(), 2);
    assert!(recorded["contents"].get("data.path").is_none());
    let resolved = std::fs::read_to_string(world.run_dir().join("resolved.toml")).unwrap();
    for left_out in ["[validate]", "[timesteps]", "[weights]", "[safeguard]", "[data]\npath"] {
        assert!(!resolved.contains(left_out), "{resolved}");
    }
    let resume = |sets: &[&str]| {
        let mut command = world.train_with(sets);
        command.arg("--resume");
        command
    };
    std::fs::rename(world.path("p.txt"), world.path("q.txt")).unwrap();
    std::fs::rename(world.path("judge"), world.path("judge2")).unwrap();
    let moved = [prompts("q.txt"), scorers("judge2", 1.0)];
    let said = succeeds(&mut resume(&[&moved[0], &moved[1]]));
    assert!(said.contains("already at step 1"), "{said}");
    // resolved.toml itself is a configuration that gives the same run.
    let said = succeeds(&mut resume(&["rollout.prompts=[\"chestnut\", \"tomato\"]", &moved[1]]));
    assert!(said.contains("already at step 1"), "{said}");
    let said = world.refused(&mut resume(&[&moved[0], &scorers("judge2", 2.0)]), 2);
    assert!(said.contains("cannot resume with another configuration: reward.scorers: the run has "), "{said}");
    std::fs::write(world.path("q.txt"), "chestnut\ntomato\ngrapes\n").unwrap();
    let said = world.refused(&mut resume(&[&moved[0], &moved[1]]), 2);
    assert!(said.contains("rollout.prompts: the run has "), "{said}");
}

#[test]
fn samples_of_a_method_without_items_show_its_prompts() {
    let world = online("ddpo");
    succeeds(&mut world.train_with(&["sample.every=1", "sample.steps=2", "sample.seeds=[0]"]));
    let resolved = std::fs::read_to_string(world.run_dir().join("resolved.toml")).unwrap();
    assert!(resolved.contains("[sample]\nevery = 1\nprompts = [\"chestnut\", \"tomato\"]"), "{resolved}");
    assert!(world.run_dir().join("samples/step-000001").is_dir());
}

#[test]
fn prompts_of_samples_come_from_a_table_too() {
    let world = World::new(8);
    std::fs::write(world.path("p.csv"), "caption\na cat\n\"a dog, sitting\"\n").unwrap();
    let set = format!("sample.prompts={:?}", world.path("p.csv").display().to_string());
    let run = world.trained("csv", &["sample.every=3", "sample.steps=2", "sample.seeds=[0]", &set]);
    let resolved = std::fs::read_to_string(run.join("resolved.toml")).unwrap();
    assert!(resolved.contains("prompts = [\"a cat\", \"a dog, sitting\"]"), "{resolved}");
}
