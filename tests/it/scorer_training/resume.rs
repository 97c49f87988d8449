//! A run that was killed or stopped writes the same bytes as one that was not.

use super::Judged;
use crate::support::{files, signalled, succeeds};
use std::collections::BTreeMap;

/// Everything a run leaves but its lock, the paths in its settings and the page that names them.
fn left(world: &Judged, run: &str) -> BTreeMap<String, String> {
    let mut all = files(&world.path(run));
    all.retain(|name, _| !["run.lock", "resolved.toml"].iter().any(|end| name.ends_with(end)));
    all
}

fn resumes(method: &str, rest: &str, sets: &[&str], point: &str) {
    let world = Judged::new();
    world.config(method, rest);
    let whole = format!("train.out=\"{}\"", world.path("whole").display());
    succeeds(&mut world.train_with(&[&[whole.as_str()], sets].concat()));
    let (code, _) = signalled(point, &mut world.train_with(sets));
    let expected = if point.starts_with("KILL") { None } else { Some(143) };
    assert_eq!(code, expected);
    assert!(!world.path("run/final").exists());
    let said = succeeds(&mut world.train(&[&crate::support::flags(sets)[..], &["--resume"]].concat()));
    assert!(said.contains("resuming at step"), "{said}");
    // A stop writes a checkpoint of its own.
    let mut run = left(&world, "run");
    run.retain(|name, _| !name.starts_with("checkpoint-000003/"));
    assert_eq!(run, left(&world, "whole"));
    let again = world.train(&[&crate::support::flags(sets)[..], &["--resume"]].concat()).assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stdout).contains("already at step 6"));
}

#[test]
fn a_killed_run_of_towers_writes_the_bytes_of_an_uninterrupted_one() {
    resumes("pickscore", "", &["validate.every=1"], "KILL train 3");
}

#[test]
fn a_killed_run_whose_groups_take_turns_writes_the_bytes_of_an_uninterrupted_one() {
    resumes("lore", "", &[], "KILL train 5");
}

#[test]
fn a_stopped_run_continues_from_its_last_step() {
    resumes("uncertainty", "", &["train.checkpoint_every=100"], "TERM train 3 + 1");
}

#[test]
fn a_run_without_a_checkpoint_starts_again() {
    let world = Judged::new();
    signalled("KILL train 1", &mut world.train(&[]));
    let said = succeeds(&mut world.train(&["--resume"]));
    assert!(said.contains("no whole checkpoint yet"), "{said}");
    let other = Judged::new();
    succeeds(&mut other.train(&[]));
    let page = |name: &String| name != "report.html";
    let both = [&world, &other]
        .map(|world| left(world, "run").into_iter().filter(|(name, _)| page(name)).collect::<BTreeMap<_, _>>());
    assert_eq!(both[0].get("final/model.safetensors"), both[1].get("final/model.safetensors"));
    assert_eq!(both[0].get("metrics.jsonl"), both[1].get("metrics.jsonl"));
}

#[test]
fn a_killed_ensemble_continues_with_the_member_it_was_at() {
    let world = Judged::new();
    let whole = format!("train.out=\"{}\"", world.path("whole").display());
    succeeds(&mut world.train_with(&["train.members=3", &whole]));
    let (code, _) = signalled("KILL train 6, train 3", &mut world.train_with(&["train.members=3"]));
    assert_eq!(code, None);
    assert!(world.path("run/member-1/final").exists() && !world.path("run/member-2/final").exists());
    succeeds(&mut world.train(&["--set", "train.members=3", "--resume"]));
    assert_eq!(left(&world, "run"), left(&world, "whole"));
}
