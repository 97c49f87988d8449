//! `diffpref run`: the whole chain on a tiny model, killed twice, continued, changed, and its refusals.

use crate::support::{Messages, Running, World, diffpref, files, json, names, signalled, succeeds};
use assert_cmd::Command;
use std::path::PathBuf;

/// A world with a recipe of one round: two prompts, four pictures each, labelled by file size.
fn world(rounds: u32) -> World {
    let world = World::new(4);
    std::fs::write(world.path("prompts.txt"), "a red fox\na dog\n").unwrap();
    let path = |name: &str| world.path(name).display().to_string();
    let (model, out, prompts, config) = (crate::support::model(), path("chain"), path("prompts.txt"), path("run.toml"));
    let recipe = format!(
        "out = \"{out}\"\nrounds = {rounds}\n\n[generate]\nmodel = \"{}\"\nprompts = \"{prompts}\"\nnum_images = 4\nsteps = 2\n\n\
         [score]\nscorer = [\"compressibility\", \"background\"]\n\n[pairs]\nby = \"background.darkness\"\n\n\
         [train]\nconfig = \"{config}\"\nset = [\"train.steps=2\", \"validate.every=0\"]\n\n\
         [eval]\nprompts = \"{prompts}\"\nscorer = [\"compressibility\"]\nseeds = 2\nsteps = 2\n",
        model.display()
    );
    std::fs::write(world.path("chain.toml"), recipe).unwrap();
    world
}

fn run(world: &World, arguments: &[&str]) -> Command {
    let mut command = diffpref();
    command.env("XDG_CACHE_HOME", world.path("cache")).arg("run").arg(world.path("chain.toml")).args(arguments);
    command
}

/// Replaces a text of the recipe.
fn edit(world: &World, from: &str, to: &str) {
    let recipe = std::fs::read_to_string(world.path("chain.toml")).unwrap();
    assert!(recipe.contains(from));
    std::fs::write(world.path("chain.toml"), recipe.replace(from, to)).unwrap();
}

fn lora(world: &World, round: u32) -> PathBuf {
    world.path(&format!("chain/round-{round}/train/final/pytorch_lora_weights.safetensors"))
}

#[test]
fn a_chain_that_was_killed_twice_ends_as_one_that_was_not() {
    let (whole, broken) = (world(1), world(1));
    let said = succeeds(&mut run(&whole, &[]));
    assert!(said.contains("5 stages ran, 0 were there already"), "{said}");
    assert_eq!(json(&whole.path("chain/eval/eval.json"))["models"].as_array().unwrap().len(), 2);

    // The signal point is that of the command that reaches it: first while painting, then while training.
    let (code, said) = signalled("KILL sample 3", &mut run(&broken, &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("round 1, generate: the command was ended by signal 9"), "{said}");
    let (code, said) = signalled("TERM train 1", &mut run(&broken, &[]));
    assert_eq!(code, Some(143), "{said}");
    assert!(
        said.contains("4 of 8 pictures are there already") || said.contains("pictures are there already"),
        "{said}"
    );
    let said = succeeds(&mut run(&broken, &[]));
    assert!(said.contains("round 1, pairs: there already") && said.contains("resuming at step 1"), "{said}");
    assert!(said.contains("2 stages ran, 3 were there already"), "{said}");
    assert_eq!(std::fs::read(lora(&whole, 1)).unwrap(), std::fs::read(lora(&broken, 1)).unwrap());
}

#[test]
fn a_command_stops_and_keeps_its_work_when_the_chain_is_killed() {
    let world = world(1);
    edit(&world, "train.steps=2", "train.steps=150");
    succeeds(&mut run(&world, &["--until", "pairs"]));
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("diffpref"));
    command.args(["run"]).arg(world.path("chain.toml")).args(["--until", "train"]);
    command.env("OMP_NUM_THREADS", "1").env("XDG_CACHE_HOME", world.path("cache"));
    let mut running = Running::spawn(command);
    running.wait_for("train 2/");
    running.signal(libc::SIGKILL);
    let train = world.path("chain/round-1/train");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !names(&train).iter().any(|name| name.starts_with("checkpoint-")) {
        assert!(std::time::Instant::now() < end, "no checkpoint of the command: {:?}", names(&train));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let (_, said) = signalled("TERM train 149", &mut run(&world, &["--until", "train"]));
    assert!(said.contains("resuming at step"), "{said}");
}

#[test]
fn only_what_changed_and_what_follows_runs_again() {
    let world = world(1);
    succeeds(&mut run(&world, &["--until", "pairs"]));
    assert!(!world.path("chain/round-1/train").exists());
    let pictures = files(&world.path("chain/round-1/generate"));

    edit(&world, "by = \"background.darkness\"", "by = \"compressibility.compressibility\"");
    let planned = run(&world, &["--dry-run"]).output().unwrap();
    let planned = String::from_utf8(planned.stdout).unwrap();
    let marks: Vec<&str> = planned.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(
        marks,
        [
            "# round 1, generate: there already",
            "# round 1, score: there already",
            "# round 1, pairs: to run",
            "# round 1, train: to run",
            "# eval: to run"
        ]
    );
    let said = succeeds(&mut run(&world, &["--until", "pairs"]));
    assert!(said.contains("round 1, pairs: inputs changed") && said.contains("1 stages ran, 2 were there"), "{said}");
    assert_eq!(files(&world.path("chain/round-1/generate")), pictures);

    std::fs::write(world.path("prompts.txt"), "a red fox\na cat\n").unwrap();
    let said = succeeds(&mut run(&world, &["--until", "score"]));
    assert!(said.contains("round 1, generate: inputs changed"), "{said}");
    assert_ne!(files(&world.path("chain/round-1/generate")), pictures);
}

#[test]
fn a_second_round_paints_with_the_model_of_the_first_and_continues_it() {
    let world = world(2);
    succeeds(&mut run(&world, &[]));
    let pictures =
        |round: u32| std::fs::read(world.path(&format!("chain/round-{round}/generate/000000-00.png"))).unwrap();
    assert_ne!(pictures(1), pictures(2));
    assert_ne!(std::fs::read(lora(&world, 1)).unwrap(), std::fs::read(lora(&world, 2)).unwrap());
    let names = json(&world.path("chain/eval/eval.json"));
    let names: Vec<&str> = names["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["start", "round-1", "round-2"]);
}

#[test]
fn a_model_that_labels_itself_is_killed_while_it_labels_and_goes_on() {
    let (whole, broken) = (self_labelled(), self_labelled());
    let said = succeeds(&mut run(&whole, &[]));
    assert!(said.contains("7 stages ran, 0 were there already"), "{said}");
    // The second round measures the reference first, then the model that labels.
    let (code, said) = signalled("KILL label 4, label 1", &mut run(&broken, &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("round 2, pairs: the command was ended by signal 9"), "{said}");
    let (code, said) = signalled("TERM train 1", &mut run(&broken, &[]));
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("round 2, generate: there already") && said.contains("round 2, train: diffpref"), "{said}");
    let said = succeeds(&mut run(&broken, &[]));
    assert!(said.contains("round 2, pairs: there already") && said.contains("resuming at step 1"), "{said}");
    assert_eq!(std::fs::read(lora(&whole, 2)).unwrap(), std::fs::read(lora(&broken, 2)).unwrap());

    let rankings = |round: u32| {
        let summary = json(&whole.path(&format!("chain/round-{round}/pairs/pairs.json")));
        let labelled = &summary["labelled"];
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("halves").to_string();
        (
            text(&labelled["by"]["ranking"]),
            text(&labelled["consistency"]["with"]["ranking"]),
            summary["replayed"].clone(),
        )
    };
    let names = |a: &str, b: &str, replayed: u64| (a.to_string(), b.to_string(), serde_json::json!(replayed));
    assert_eq!(rankings(1), names("diffusion_classifier", "halves", 0));
    assert_eq!(rankings(2), names("implicit_reward", "diffusion_classifier", 4));
    // One of four prompts was painted anew, and all four have pairs.
    let pictures = |round: u32| names_of(&whole, &format!("chain/round-{round}/generate"));
    assert_eq!((pictures(1), pictures(2)), (12, 3));
}

/// Four prompts, three pictures each; two rounds, labelled by the model, a quarter refreshed, half replayed.
fn self_labelled() -> World {
    let world = world(2);
    std::fs::write(world.path("prompts.txt"), "a red fox\na dog\na cat\na house\n").unwrap();
    edit(&world, "[score]\nscorer = [\"compressibility\", \"background\"]\n\n", "");
    edit(&world, "by = \"background.darkness\"", "label = \"self\"\nconsistency = \"kendall\"\nmargin_weight = 1.0");
    edit(&world, "num_images = 4\nsteps = 2\n", "num_images = 3\nsteps = 2\nrefresh = 0.25\n");
    edit(&world, "[train]\n", "[train]\nreplay = 0.5\n");
    edit(&world, "\"validate.every=0\"", "\"validate.every=0\", \"weights.source=column\"");
    world
}

/// Number of pictures in a folder.
fn names_of(world: &World, folder: &str) -> usize {
    names(&world.path(folder)).iter().filter(|name| name.ends_with(".png")).count()
}

#[test]
fn what_is_wrong_is_named_before_anything_runs_or_by_the_stage_that_fails() {
    let world = world(1);
    let mut messages = Messages::default();
    let mut refused = |from: &str, to: &str, arguments: &[&str]| {
        let before = std::fs::read_to_string(world.path("chain.toml")).unwrap();
        edit(&world, from, to);
        let output = run(&world, arguments).output().unwrap();
        std::fs::write(world.path("chain.toml"), before).unwrap();
        let said = String::from_utf8(output.stderr).unwrap().replace(&world.path("").display().to_string(), "DIR/");
        let said: Vec<&str> = said.lines().filter(|line| line.starts_with("error")).collect();
        messages.add(&format!("{to} {arguments:?}: exit {:?}", output.status.code()), &said.join("\n"));
    };
    refused("[pairs]", "[pears]", &[]);
    refused("rounds = 1", "rounds = 1.5", &[]);
    refused("num_images = 4", "out = \"x\"", &[]);
    refused("[eval]\n", "[score.more]\n", &["--until", "eval"]);
    refused("num_images = 4", "num_images = \"many\"", &[]);
    refused("num_images = 4", "number_of_images = 4", &[]);
    refused("num_images = 4", "refresh = 0.5", &[]);
    refused("[pairs]\n", "[pairs]\nlabel = \"self\"\n", &[]);
    refused("[pairs]\n", "[pairs]\nreplay = 0.5\n", &[]);
    refused("\"background\"]", "\"backround\"]", &["--until", "score"]);
    insta::assert_snapshot!(messages);
}
