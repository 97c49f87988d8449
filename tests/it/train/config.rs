//! A configuration that is wrong is refused with exit code 2, file, line, key, what was expected and what was found,
//! before anything is written.

use crate::support::{self, Messages, World, files};

/// stderr of a run with one override, refused with exit code 2; nothing was written.
fn refused(world: &World, set: &str) -> String {
    let said = world.refused(&mut world.train_with(&[set]), 2);
    assert!(!world.run_dir().exists(), "{set} left a run folder");
    said
}

fn rewritten(world: &World, from: &str, to: &str) {
    let text = std::fs::read_to_string(world.path("run.toml")).unwrap();
    assert!(text.contains(from));
    std::fs::write(world.path("run.toml"), text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_misspelt_key_is_refused_with_line_and_nearest_name() {
    let world = World::new(8);
    rewritten(&world, "micro_batch", "micro_bach");
    let said = world.refused(&mut world.train(&[]), 2);
    assert!(
        said.contains("DIR/run.toml:23: unknown key train.micro_bach, did you mean micro_batch? Keys of [train]:"),
        "{said}"
    );
}

#[test]
fn a_misspelt_table_is_refused_with_line_and_nearest_name() {
    let world = World::new(8);
    rewritten(&world, "[optim]", "[optm]");
    let said = world.refused(&mut world.train(&[]), 2);
    assert!(said.contains("DIR/run.toml:18: unknown table [optm], did you mean optim?"), "{said}");
}

#[test]
fn a_missing_key_is_named_with_its_meaning() {
    let world = World::new(8);
    for (line, expected) in [
        (
            "lr = 1e-2\n",
            "DIR/run.toml: optim.lr is missing: learning rate, as the optimizer sees it. Add it under [optim].",
        ),
        ("steps = 3\n", "DIR/run.toml: train.steps is missing: optimizer steps. Add it (or epochs) under [train]."),
    ] {
        let world2 = World::new(8);
        rewritten(&world2, line, "");
        let said = world2.refused(&mut world2.train(&[]), 2);
        assert!(said.contains(expected), "{said}");
    }
    rewritten(&world, "[model]\npath", "[model]\nunet");
    let said = world.refused(&mut world.train(&[]), 2);
    assert!(said.contains("DIR/run.toml: model.path is missing"), "{said}");
}

#[test]
fn values_out_of_range_name_the_key_and_the_range() {
    let world = World::new(8);
    let mut messages = Messages::default();
    for set in [
        "optim.lr=-1e-4",
        "optim.lr=0",
        "optim.lr=nan",
        "optim.lr=fast",
        "optim.betas=[0.9, 1]",
        "ema.decay=1",
        "data.flip=1.5",
        "data.crops=1",
        "train.steps=0",
        "train.steps=2.5",
        "train.micro_batch=0",
        "train.seed=-1",
        "method.beta=0",
        "method.name=dop",
        "method.name=balancd",
        "method.name=timestep-aware",
        "data.labels=human",
        "data.labels=vote:a,a",
        "data.ties=kept",
        "timesteps.law=discuonted",
        "timesteps.min=-1",
        "safeguard.name=sdop",
        "weights.source=video",
        "reference.every=0",
        "lora.rank=-1",
        "model.device=tpu",
        "model.dtype=float16",
        "validate.fraction=1",
        "sample.seeds=[-1]",
        "train.out=",
        "lora.targets=[]",
        "train=3",
    ] {
        let said = refused(&world, set);
        messages.add(set, &said);
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn values_that_do_not_fit_together_are_refused_with_the_reason() {
    let world = World::new(8);
    let mut messages = Messages::default();
    for sets in [
        &["data.resolution=17"][..],
        &["train.epochs=2"],
        &["train.pairs_per_step=8"],
        &["method.name=sft", "reference.kind=frozen"],
        &["lora.rank=0", "lora.init=x.safetensors"],
        &["lora.targets=[\"to_z\"]"],
        &["model.clip_skip=9"],
        &["sample.every=1", "sample.steps=1000"],
        &["model.zero_terminal_snr=true"],
        &["sample.every=1", "sample.prompts=nowhere.txt"],
    ] {
        let said = world.refused(
            &mut world.train(&sets.iter().flat_map(|s| ["--set", s]).chain(["--dry-run"]).collect::<Vec<_>>()),
            2,
        );
        messages.add(&format!("{sets:?}"), &said);
        assert!(!world.run_dir().exists(), "{sets:?}");
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn a_cuda_device_that_is_not_there_is_refused_with_the_way_on() {
    if tch::Cuda::is_available() {
        return;
    }
    let world = World::new(8);
    let said = world.refused(&mut world.train(&["--dry-run", "--set", "model.device=cuda"]), 2);
    assert!(
        said.contains(
            "model.device = \"cuda:0\": no CUDA device was found. `diffpref doctor` lists the devices; use cpu"
        ),
        "{said}"
    );
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    let world = World::new(8);
    for set in ["reference.placement=cpu", "reference.path=models/other", "method.name=ppd"] {
        let said = refused(&world, set);
        let (key, _) = set.split_once('=').unwrap();
        assert!(said.contains("not built yet"), "{set}: {said}");
        let table = key.split('.').next().unwrap();
        assert!(said.contains(&format!("--set {key}")) || said.contains(&format!("[{table}]")), "{set}: {said}");
    }
}

#[test]
fn an_override_of_the_method_drops_the_keys_it_does_not_have_and_says_so() {
    let world = World::new(8);
    let said = support::succeeds(&mut world.train_with(&["method.name=sft"]));
    assert!(said.contains("method.beta of the config does not apply to sft: dropped"), "{said}");
    let said = world.refused(&mut world.train_with(&["method.name=sft", "method.beta=3"]), 2);
    assert!(said.contains("--set method.beta: unknown key method.beta"), "{said}");
}

#[test]
fn text_that_is_not_toml_and_a_missing_file_are_refused() {
    let world = World::new(8);
    let said = world.refused(support::diffpref().arg("train").arg(world.path("none.toml")), 2);
    assert!(
        said.contains("DIR/none.toml: cannot read the config") && said.contains("Give the path of a TOML file."),
        "{said}"
    );
    rewritten(&world, "lr = 1e-2", "lr = = 1");
    let said = world.refused(&mut world.train(&[]), 2);
    assert!(said.contains("DIR/run.toml: not TOML: TOML parse error at line 19"), "{said}");
}

#[test]
fn resolved_toml_reproduces_the_run_and_has_every_default() {
    let world = World::new(12);
    let first = world.trained("run", &["method.beta=\"auto\"", "optim.lr=1e-3"]);
    let resolved = std::fs::read_to_string(first.join("resolved.toml")).unwrap();
    for line in [
        "beta = \"auto\"",
        "weight_decay = 0.01",
        "prompt_dropout = 0.2",
        "alpha = 2.0",
        "format = \"pairs\"",
        "device = \"cpu\"",
        "dtype = \"float32\"",
        "guidance_scale = 7.5",
    ] {
        assert!(resolved.lines().any(|l| l == line), "{line} is not in\n{resolved}");
    }
    std::fs::write(world.path("run.toml"), &resolved).unwrap();
    let second = world.trained("again", &[]);
    assert_eq!(files(&first.join("final")), files(&second.join("final")));
    let moved = |text: &str| text.replace("/again\"", "/run\"");
    assert_eq!(moved(&std::fs::read_to_string(second.join("resolved.toml")).unwrap()), resolved);
}

#[test]
fn epochs_become_steps_rounded_up() {
    let world = World::new(13);
    let text = std::fs::read_to_string(world.path("run.toml")).unwrap().replace("steps = 3", "epochs = 1.5");
    std::fs::write(world.path("run.toml"), text).unwrap();
    let run = world.trained("run", &["validate.fraction=0"]);
    // 1.5 x 13 / 4 = 4.9
    assert_eq!(support::metrics(&run).len(), 5);
    assert!(std::fs::read_to_string(run.join("resolved.toml")).unwrap().contains("steps = 5\n"));
    let said = world.refused(&mut world.train_with(&["train.epochs=1e300"]), 2);
    assert!(said.contains("train.epochs = 1000"), "{said}");
}
