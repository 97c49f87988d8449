//! What `train` says: plain lines in a pipe, bars on a terminal, metric lines for programs, a plan without training.

use crate::support::{self, World, metrics, succeeds};
use serde_json::Value;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let world = World::new(12);
    let before = support::files(&world.path(""));
    let assert = world.train(&["--dry-run"]).assert().success();
    let plan = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    for line in [
        "method      dpo",
        "machine     cpu, float32",
        "steps       3 of 4 pairs",
        "0 images missing, 16 px",
        "memory ",
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    let assert = world.train(&["--dry-run", "--json"]).assert().success();
    let plan: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!((&plan["steps"], &plan["pairs_per_step"], &plan["holds_a_run"]), (&3.into(), &4.into(), &false.into()));
    assert!(plan["trained_parameters"].as_u64().unwrap() < plan["parameters"].as_u64().unwrap());
    assert_eq!(support::files(&world.path("")), before);
    assert!(!world.path("cache").exists() && !world.run_dir().exists());
}

#[test]
fn a_dry_run_finds_what_would_stop_the_run() {
    let world = World::new(12);
    std::fs::remove_file(world.path("data/w1.png")).unwrap();
    let said = world.refused(&mut world.train(&["--dry-run"]), 1);
    assert!(
        said.contains("1 of 12 items have an image that cannot be used")
            && said.contains("w1.png: the file is missing"),
        "{said}"
    );
    let assert = world.train(&["--dry-run", "--set", "data.max_bad_fraction=0.5"]).assert().success();
    assert!(String::from_utf8_lossy(&assert.get_output().stdout).contains("1 images missing"));
}

#[test]
fn json_streams_the_metric_lines_and_nothing_else_to_stdout() {
    let world = World::new(12);
    let assert = world.train(&["--json"]).assert().success();
    let stdout = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    let lines: Vec<Value> = stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines, metrics(&world.run_dir()));
    let assert = world.train(&["--resume", "--json", "--set", "train.steps=4"]).assert().success();
    let stdout = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let silent = World::new(12);
    assert!(silent.train(&[]).assert().success().get_output().stdout.is_empty(), "results only on stdout");
}

#[test]
fn plain_lines_come_every_so_many_steps_with_time_left_after_a_resume_too() {
    let world = World::new(12);
    let sets = ["log.every=2", "train.steps=5", "train.checkpoint_every=1"];
    let said = succeeds(&mut world.train_with(&[&sets[..], &["train.steps=4"]].concat()));
    let steps = |said: &str| -> Vec<String> {
        said.lines().filter(|l| l.starts_with("train ") && !l.contains("after")).map(String::from).collect()
    };
    let lines = steps(&said);
    assert_eq!(lines.len(), 2, "{said}");
    for part in ["train 2/4  loss ", "implicit acc ", " pairs/s", " s left"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    assert!(!said.contains('\u{1b}') && !said.contains('\r'), "no control characters in a pipe: {said:?}");
    let resume: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).chain(["--resume"]).collect();
    let said = succeeds(&mut world.train(&resume));
    let lines = steps(&said);
    assert!(lines[0].starts_with("train 5/5") && lines[0].ends_with("0 s left"), "{said}");
}

#[test]
fn a_forecast_follows_the_twentieth_step() {
    let world = World::new(12);
    let sets = ["train.steps=22", "train.micro_batch=1", "train.grad_accum=1", "validate.every=30"];
    let said = succeeds(&mut world.train_with(&sets));
    let forecast: Vec<&str> = said.lines().filter(|l| l.starts_with("forecast: ")).collect();
    assert_eq!(forecast.len(), 1, "{said}");
    for part in [
        "forecast: 2 steps left, about ",
        "UTC)",
        "next validation step 22, next samples none",
        "MiB a checkpoint",
        "train ",
    ] {
        assert!(forecast[0].contains(part), "{part}: {}", forecast[0]);
    }
    let at = |text: &str| said.find(text).unwrap();
    assert!(at("train 20/22") < at("forecast") && at("forecast") < at("train 21/22"), "{said}");
}

/// stderr of a run whose stderr is a terminal.
fn on_a_terminal(world: &World, arguments: &[&str], no_color: bool) -> String {
    let (mut terminal, mut program) = (0, 0);
    let size = libc::winsize { ws_row: 40, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both ends are written by openpty, the name and the attributes may be null.
    let opened =
        unsafe { libc::openpty(&mut terminal, &mut program, std::ptr::null_mut(), std::ptr::null_mut(), &size) };
    assert_eq!(opened, 0);
    // SAFETY: openpty made them, and nobody else owns them.
    let (terminal, program) = unsafe { (OwnedFd::from_raw_fd(terminal), OwnedFd::from_raw_fd(program)) };
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("diffpref"));
    command.arg("train").arg(world.path("run.toml")).args(arguments);
    command.env("OMP_NUM_THREADS", "1").env("HOME", env!("CARGO_TARGET_TMPDIR")).env("TERM", "xterm-256color");
    command.env_remove("NO_COLOR").env_remove("CLICOLOR").env_remove("CLICOLOR_FORCE");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.stdout(std::process::Stdio::null()).stderr(program).spawn().unwrap();
    drop(command); // with it the last end of ours
    let mut said = Vec::new();
    let mut reader = std::fs::File::from(terminal);
    let mut block = [0; 4096];
    // Linux ends a terminal without programs with EIO.
    while let Ok(n @ 1..) = reader.read(&mut block) {
        said.extend_from_slice(&block[..n]);
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(child.wait().unwrap().success(), "{said}");
    said
}

#[test]
fn a_terminal_gets_bars_with_loss_accuracy_speed_and_time_left_for_each_phase() {
    let world = World::new(24);
    let sets = [
        "--set",
        "train.steps=40",
        "--set",
        "sample.every=20",
        "--set",
        "sample.steps=5",
        "--set",
        "validate.every=20",
    ];
    let said = on_a_terminal(&world, &sets, false);
    for part in [
        "encode",
        "train",
        "validate",
        "sample",
        "/40",
        "loss ",
        "implicit acc ",
        "pairs/s",
        " left",
        "finished at step 40",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("\u{1b}[36m"), "bars are coloured");
    let resume = [&sets[2..], &["--resume", "--set", "train.steps=60"]].concat();
    let said = on_a_terminal(&world, &resume, false);
    // Time left follows from the steps since the resume: far from the years or the zero of a wrong count.
    let lefts: Vec<&str> = said.split(" passed, ").skip(1).filter_map(|s| s.split(" left").next()).collect();
    assert!(!lefts.is_empty() && lefts.iter().all(|left| left.ends_with('s') && left.len() <= 3), "{lefts:?}");
}

#[test]
fn no_color_is_respected_on_a_terminal() {
    let world = World::new(12);
    let said = on_a_terminal(&world, &["--set", "train.steps=20"], true);
    assert!(said.contains("train") && said.contains("loss "), "{said}");
    let colour = said.split("\u{1b}[").skip(1).find(|s| {
        s.split_once('m').is_some_and(|(n, _)| n.chars().all(|c| c.is_ascii_digit() || c == ';') && !n.is_empty())
    });
    assert!(colour.is_none(), "{colour:?}");
}

#[test]
fn readers_that_went_away_are_no_reason_to_stop() {
    let world = World::new(12);
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("diffpref"));
    command.arg("train").arg(world.path("run.toml")).arg("--json").env("HOME", env!("CARGO_TARGET_TMPDIR"));
    command.env("OMP_NUM_THREADS", "1").stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    assert!(world.run_dir().join("final").exists());

    command.arg("--dry-run").stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
}

#[test]
fn arguments_that_do_not_exist_are_refused_with_exit_code_2() {
    let world = World::new(3);
    for arguments in [&["--resume=maybe"][..], &["--sett", "a.b=1"], &["--set", "steps=3"], &["--set", "train.steps"]] {
        world.train(arguments).assert().failure().code(2);
    }
    support::diffpref().assert().failure().code(2);
    support::diffpref().arg("trian").assert().failure().code(2);
}
