//! What is refused, and that nothing is lost.

use super::{FOUR, folder, sweep, world, write};
use crate::support::{Messages, Running, files, succeeds};

#[test]
fn what_is_no_sweep_is_refused_before_anything_runs() {
    let world = world(FOUR);
    let mut messages = Messages::default();
    let mut refused = |text: &str, arguments: &[&str]| {
        write(&world, text);
        let output = sweep(&world, arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap().replace(&world.path("").display().to_string(), "DIR/");
        let said = said
            .lines()
            .filter(|line| !line.contains("out = ") && !line.contains("base = "))
            .collect::<Vec<_>>()
            .join("\n");
        messages.add(&format!("{} {arguments:?}: exit {:?}", text.replace('\n', "; "), output.status.code()), &said);
    };
    let axis = |axis: &str| format!("rank_by = \"val_margin\"\n[axes]\n{axis}\n");
    refused(&axis("\"method.bta\" = [1, 2]"), &[]);
    refused(&axis("\"optm.lr\" = [1e-3]"), &[]);
    refused(&axis("\"optim.lr\" = [\"fast\"]"), &[]);
    refused(&axis("\"optim.lr\" = []"), &[]);
    refused(&axis("\"optim.lr\" = { from = 1, to = 1e-3, points = 3 }"), &[]);
    refused(&axis("\"optim.lr\" = { from = 0, to = 1e-3, points = 3, log = true }"), &[]);
    refused(&axis("\"optim.lr\" = { from = 1e-4, to = 1e-3 }"), &[]);
    refused(&axis("\"optim.lr\" = { vales = [1] }"), &[]);
    refused(&axis("\"optim.lr\" = 3"), &[]);
    refused(&axis("\"train.seed\" = [1, 2]"), &[]);
    refused(&axis("\"method.name\" = [\"sft\"]\n\"method.beta\" = [1]"), &[]);
    refused(&axis("x = { zip = { \"optim.lr\" = [1e-3], \"lora.rank\" = [2, 4] } }"), &[]);
    refused(&axis("\"eval.steps\" = [1, 2]"), &[]);
    refused(&format!("max_trials = 3\n{FOUR}"), &[]);
    refused("rank_by = \"val_margin\"\nseeds = []\n", &[]);
    refused("rank_by = \"val_margin\"\nstrategy = \"sobol\"\n", &[]);
    refused("rank_by = \"val_margin\"\nstrategy = \"halving\"\n", &[]);
    refused("rank_by = \"val_margin\"\nrequire = \"val_margin >\"\n", &[]);
    refused("rank_by = \"val_margin\"\ntrails = 3\n", &[]);
    refused("seeds = [0]\n", &[]);
    refused("rank_by = \"val_margin\"\n[choose]\nrank_by = \"x\"\neval = { prompts = \"p\", scorer = [] }\n", &[]);
    let claimed = |names: &str| {
        format!("rank_by = \"x\"\n[[methods]]\nname = \"dpo\"\n[[claims]]\nclaim = \"dpo is best\"\n{names}\n")
    };
    refused(&claimed("method = \"dop\""), &[]);
    refused(&claimed("method = \"dpo\"\nwith = \"dpo\""), &[]);
    refused(&claimed("method = \"dpo\"\nexpect = \"more\""), &[]);
    refused(FOUR, &["--trial", "9"]);
    insta::assert_snapshot!(messages);
    assert!(!folder(&world).exists());
}

#[test]
fn a_metric_that_no_trial_logs_is_named_with_the_nearest_one_and_the_trials_are_kept() {
    let world = world(&FOUR.replace("val_margin", "val_marign"));
    let said = world.refused(&mut sweep(&world, &[]), 2);
    assert!(said.contains("no finished trial has the metric val_marign, did you mean val_margin?"), "{said}");
    assert!(said.contains("its trials are kept"), "{said}");
    write(&world, FOUR);
    let said = succeeds(&mut sweep(&world, &[]));
    assert!(!said.contains(": train"), "{said}");
}

#[test]
fn a_second_sweep_in_the_folder_is_refused() {
    let world = world(&FOUR.replace("[axes]", "[set]\n\"train.steps\" = 300\n[axes]"));
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("diffpref"));
    command
        .arg("sweep")
        .arg(world.path("sweep.toml"))
        .env("OMP_NUM_THREADS", "1")
        .env("XDG_CACHE_HOME", world.path("cache"));
    let mut first = Running::spawn(command);
    first.wait_for("train 2/");
    let said = world.refused(&mut sweep(&world, &[]), 1);
    assert!(said.contains(&format!("another sweep (pid {}) runs in this folder", first.pid())), "{said}");
    first.signal(libc::SIGTERM);
    assert_eq!(first.end().0, Some(143));
}

#[test]
fn a_changed_base_is_refused_with_the_keys_and_nothing_is_lost() {
    let world = world(FOUR);
    succeeds(&mut sweep(&world, &[]));
    let before = files(&folder(&world));
    let config = std::fs::read_to_string(world.path("run.toml")).unwrap();
    std::fs::write(world.path("run.toml"), config.replace("lr = 1e-2", "lr = 2e-2")).unwrap();
    let said = world.refused(&mut sweep(&world, &[]), 2);
    assert!(said.contains("\"method.beta 200, seed 0\" was planned here with other settings (optim.lr: the folder has 0.01, the sweep has 0.02)"), "{said}");
    assert_eq!(files(&folder(&world)), before);
}
