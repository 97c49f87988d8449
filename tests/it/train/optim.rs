//! The choices of [optim] and of memory against time, with the real program: what they resume to, and what is refused.

use crate::support::{self, World, copy, files, flags, metrics, succeeds, timeless};
use std::path::Path;

/// `--set` before every override, and `--resume` at the end.
fn resuming<'a>(sets: &[&'a str]) -> Vec<&'a str> {
    sets.iter().flat_map(|set| ["--set", *set]).chain(["--resume"]).collect()
}

fn resolved(run: &Path) -> toml::Table {
    std::fs::read_to_string(run.join("resolved.toml")).unwrap().parse().unwrap()
}

#[test]
fn an_adafactor_run_killed_amid_an_accumulation_ends_with_the_bytes_of_one_never_killed() {
    let world = World::new(16);
    let sets = [
        "optim.name=\"adafactor\"",
        "optim.lr=1e-3",
        "lora.rank=0",
        "train.steps=4",
        "train.micro_batch=1",
        "train.grad_accum=8",
        "train.checkpoint_every=2",
        "ema.decay=0.5",
    ];
    let whole = world.trained("whole", &sets);
    let (code, said) = world.signalled("KILL train 2 + 5", &flags(&sets));
    assert_eq!(code, None, "{said}");
    let killed = world.run_dir();
    assert_eq!(metrics(&killed).len(), 2, "step 3 was in hand");

    // A copy to go on from with fresh optimizer state: it must end elsewhere, so that this test can fail.
    let fresh = world.path("fresh");
    copy(&killed, &fresh);
    support::zero_optimizer(&fresh.join("checkpoint-000002"));

    succeeds(&mut world.train(&resuming(&sets)));
    for part in ["final", "checkpoint-000004"] {
        assert_eq!(files(&killed.join(part)), files(&whole.join(part)), "{part}");
    }
    assert_eq!(timeless(&killed), timeless(&whole));

    let out = format!("train.out={:?}", fresh.display().to_string());
    succeeds(&mut world.train(&resuming(&[&sets[..], &[out.as_str()]].concat())));
    assert_ne!(files(&fresh.join("final")), files(&whole.join("final")));
}

#[test]
fn adafactor_leaves_betas_and_eps_unread_and_says_so() {
    let world = World::new(12);
    let sets = ["optim.name=adafactor", "optim.betas=[0.5, 0.9]", "optim.eps=1e-3"];
    let said = succeeds(&mut world.train_with(&sets));
    for key in ["betas", "eps"] {
        let line = format!("optim.{key} of the config is not read by adafactor: dropped");
        assert!(said.lines().any(|l| l == line), "{said}");
        assert!(!resolved(&world.run_dir())["optim"].as_table().unwrap().contains_key(key));
    }
    let without = world.trained("without", &sets[..1]);
    assert_eq!(files(&without.join("final")), files(&world.run_dir().join("final")));
    let adamw = world.trained("adamw", &[]);
    assert_ne!(files(&without.join("final")), files(&adamw.join("final")));

    // resolved.toml is a config of its own, and other betas do not stand in the way of a resume.
    std::fs::copy(without.join("resolved.toml"), world.path("run.toml")).unwrap();
    let resume = resuming(&["optim.betas=[0.1, 0.2]", "train.steps=4"]);
    let said = succeeds(&mut world.train(&resume));
    assert!(said.contains("resuming at step 3"), "{said}");
}

#[test]
fn another_optimizer_is_refused_on_resume() {
    let world = World::new(12);
    let run = world.trained("run", &["train.steps=2"]);
    let before = files(&run.join("checkpoint-000002"));
    let said = world.refused(&mut world.train(&resuming(&["optim.name=adafactor"])), 2);
    assert!(said.contains("optim.name: the run has \"adamw\", the config has \"adafactor\""), "{said}");
    assert_eq!(files(&run.join("checkpoint-000002")), before);
}

#[test]
fn the_plan_counts_the_state_of_each_optimizer() {
    let world = World::new(12);
    let mib = |sets: &[&str]| {
        let mut command = world.train_with(&[&["lora.rank=0"], sets].concat());
        let output = command.args(["--dry-run", "--json"]).assert().success().get_output().stdout.clone();
        let plan: serde_json::Value = serde_json::from_slice(&output).unwrap();
        (plan["weights_mib"].as_f64().unwrap(), plan["optimizer_mib"].as_f64().unwrap())
    };
    let (weights, adamw) = mib(&[]);
    assert_eq!(adamw, 3.0 * weights, "gradients and two moments");
    assert_eq!(mib(&["ema.decay=0.5"]).1, 4.0 * weights);
    let (_, rounded) = mib(&["optim.name=adamw8bit"]);
    assert!(
        1.5 * weights < rounded && rounded < 2.5 * weights,
        "{rounded} of {weights}: small tensors are not rounded"
    );
    let (_, adafactor) = mib(&["optim.name=adafactor"]);
    assert!(weights < adafactor && adafactor < 2.0 * weights, "{adafactor} of {weights}");

    // What a checkpoint holds is what was counted, but for the counts of steps.
    let run = world.trained("run", &["lora.rank=0", "optim.name=adafactor", "train.steps=1"]);
    let state = support::tensors(&run.join("checkpoint-000001/optimizer.safetensors"));
    let elements = state.iter().filter(|(name, _)| !name.ends_with(".step")).map(|(_, t)| t.len()).sum::<usize>();
    assert_eq!(weights + elements as f64 * 4.0 / f64::from(1 << 20), adafactor);
}

#[test]
fn every_choice_of_gradient_checkpointing_trains_the_same_bytes() {
    let world = World::new(16);
    for lora in ["lora.rank=2", "lora.rank=0"] {
        let sets = [lora, "optim.lr=1e-4", "validate.every=3", "sample.every=3", "sample.steps=2"];
        let name = |choice: &str| format!("{choice}-{lora}");
        let none = world.trained(&name("none"), &sets);
        for choice in ["attention", "blocks", "all"] {
            let set = format!("train.gradient_checkpointing=\"{choice}\"");
            let run = world.trained(&name(choice), &[&sets[..], &[set.as_str()]].concat());
            assert_eq!(resolved(&run)["train"]["gradient_checkpointing"].as_str(), Some(choice));
            assert_eq!(timeless(&run), timeless(&none), "{choice}, {lora}");
            let (mut found, mut expected) = (files(&run.join("final")), files(&none.join("final")));
            let cards = [found.remove("README.md"), expected.remove("README.md")];
            assert!(cards.iter().all(Option::is_some), "the model card may name its run");
            assert_eq!(found, expected, "{choice}, {lora}");
        }
    }
}

#[test]
fn more_gradient_checkpointing_takes_less_memory() {
    let world = World::new(16);
    let sets = ["data.resolution=128", "train.micro_batch=8", "train.grad_accum=1", "train.steps=1", "lora.rank=0"];
    let peak = |choice: &str| {
        let set = format!("train.gradient_checkpointing=\"{choice}\"");
        let run = world.trained(choice, &[&sets[..], &["optim.lr=1e-4", &set]].concat());
        metrics(&run)[0]["peak_mem_gib"].as_f64().unwrap()
    };
    let peaks = ["none", "attention", "blocks", "all"].map(peak);
    eprintln!("{peaks:?} GiB");
    // Most of it is the program itself, and what the allocator keeps differs by a twentieth from run to run: each choice
    // is compared with none, not with its neighbours.
    let [none, attention, blocks, all] = peaks;
    assert!(attention < 0.9 * none && blocks < 0.85 * none && all < 0.85 * none, "{peaks:?} GiB");
}

#[test]
fn gradient_checkpointing_may_change_on_resume_and_a_line_says_so() {
    let world = World::new(12);
    let whole = world.trained("whole", &["train.steps=4"]);
    world.trained("run", &["train.steps=2"]);
    let said = succeeds(&mut world.train(&resuming(&["train.steps=4", "train.gradient_checkpointing=all"])));
    let line = "train.gradient_checkpointing: the run has \"none\", the config has \"all\"";
    assert!(said.lines().any(|l| l.starts_with(line) && l.ends_with("equal up to rounding")), "{said}");
    assert_eq!(timeless(&world.run_dir()), timeless(&whole));
}

#[test]
fn a_signal_amid_recomputed_parts_keeps_the_last_step_and_a_resume_ends_with_the_same_bytes() {
    let world = World::new(24);
    let sets = ["train.gradient_checkpointing=\"all\"", "train.grad_accum=12", "train.micro_batch=1", "train.steps=12"];
    let whole = world.trained("whole", &sets);
    for (point, code) in [("TERM train 3 + 5", 143), ("INT train 8 + 5", 130)] {
        let (found, said) = world.signalled(point, &[&["--resume=auto"], &flags(&sets)[..]].concat());
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains("is checkpointed in"), "{said}");
    }
    succeeds(&mut world.train(&resuming(&sets)));
    assert_eq!(timeless(&world.run_dir()), timeless(&whole));
    assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")));
}

#[test]
fn misspelt_choices_are_refused_with_the_nearest_name() {
    let world = World::new(8);
    for (set, expected) in [
        (
            "optim.name=adafacter",
            "optim.name = \"adafacter\": expected \"adamw\" | \"adamw8bit\" | \"adafactor\" (did you mean \"adafactor\"?).",
        ),
        ("optim.name=sgd", "optim.name = \"sgd\": expected \"adamw\" | \"adamw8bit\" | \"adafactor\"."),
        (
            "train.gradient_checkpointing=block",
            "expected \"none\" | \"attention\" | \"blocks\" | \"all\" (did you mean \"blocks\"?).",
        ),
        ("train.gradient_checkpointing=true", "train.gradient_checkpointing = true: expected \"none\" | \"attention\""),
        ("optim.name=3", "optim.name = 3: expected \"adamw\" | \"adamw8bit\" | \"adafactor\"."),
    ] {
        let said = world.refused(&mut world.train_with(&[set]), 2);
        assert!(said.contains(expected), "{set}: {said}");
        assert!(!world.run_dir().exists(), "{set} left a run folder");
    }
}

#[test]
fn a_run_with_moments_in_8_bits_killed_in_a_step_resumes_to_the_same_bytes() {
    let world = World::new(16);
    let sets = [
        "optim.name=\"adamw8bit\"",
        "optim.lr=1e-4",
        "lora.rank=0",
        "train.steps=4",
        "train.micro_batch=1",
        "train.grad_accum=8",
        "train.checkpoint_every=2",
        "ema.decay=0.5",
    ];
    let whole = world.trained("whole", &sets);
    let (code, said) = world.signalled("KILL train 2 + 5", &flags(&sets));
    assert_eq!(code, None, "{said}");
    let killed = world.run_dir();
    let fresh = world.path("fresh");
    copy(&killed, &fresh);
    support::zero_optimizer(&fresh.join("checkpoint-000002"));
    succeeds(&mut world.train(&resuming(&sets)));
    for part in ["final", "checkpoint-000004"] {
        assert_eq!(files(&killed.join(part)), files(&whole.join(part)), "{part}");
    }
    assert_eq!(timeless(&killed), timeless(&whole));
    let out = format!("train.out={:?}", fresh.display().to_string());
    succeeds(&mut world.train(&resuming(&[&sets[..], &[out.as_str()]].concat())));
    assert_ne!(files(&fresh.join("final")), files(&whole.join("final")));

    // The state on disk is the one that the plan counts: 8 bits where a tensor is large.
    let size = |run: &Path| std::fs::metadata(run.join("checkpoint-000004/optimizer.safetensors")).unwrap().len();
    let plain = world.trained("plain", &[&sets[..], &["optim.name=\"adamw\""]].concat());
    assert!(size(&killed) < size(&plain) * 6 / 10, "{} of {}", size(&killed), size(&plain));
    let said = world.refused(&mut world.train(&resuming(&[&sets[..], &["optim.name=\"adamw\""]].concat())), 2);
    assert!(said.contains("optim.name: the run has \"adamw8bit\", the config has \"adamw\""), "{said}");
}
