//! Ctrl-C and SIGTERM in every phase of a run, and a second signal.

use crate::support::{World, files, flags, metrics, names, succeeds, timeless};
use std::time::{Duration, Instant};

#[test]
fn a_signal_while_encoding_keeps_what_was_encoded() {
    let world = World::new(12);
    let sets = ["train.steps=1"];
    let (code, said) = world.signalled("INT encode 5", &flags(&sets));
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("error: stopped by Ctrl-C"), "{said}");
    let (done, planned) = encoded(&said);
    assert!(done == 5 && done < planned, "{said}");

    let said = succeeds(&mut world.train_with(&sets));
    assert_eq!(encoded(&said), (planned - done, planned - done), "{said}");
}

/// Of "encode 37/120    after 0.3 s": both numbers, of the images, which come first.
fn encoded(said: &str) -> (u64, u64) {
    let line =
        said.lines().find(|l| l.starts_with("encode ") && l.contains(" after ")).unwrap_or_else(|| panic!("{said}"));
    let (done, total) = line.split_whitespace().nth(1).unwrap().split_once('/').unwrap();
    (done.parse().unwrap(), total.parse().unwrap())
}

#[test]
fn a_signal_while_validating_leaves_the_validation_to_the_resumed_run() {
    let world = World::new(24);
    let sets = ["validate.every=2", "train.steps=4", "train.checkpoint_every=3"];
    let whole = world.trained("whole", &sets);
    let (code, said) = world.signalled("TERM train 2, validate 1", &flags(&sets));
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("step 2 is checkpointed in"), "{said}");
    assert_eq!(metrics(&world.run_dir()).len(), 1, "the line of step 2 waits for its validation");

    succeeds(&mut world.train(&[&["--resume"][..], &flags(&sets)].concat()));
    assert_eq!(timeless(&world.run_dir()), timeless(&whole));
    assert!(metrics(&whole)[1].get("val_margin").is_some());
    for part in ["final", "best"] {
        assert_eq!(files(&world.run_dir().join(part)), files(&whole.join(part)), "{part}");
    }
}

#[test]
fn a_signal_while_sampling_leaves_the_grid_to_the_resumed_run() {
    let world = World::new(12);
    let sets = ["sample.every=2", "sample.steps=4", "sample.seeds=[0, 1, 2]", "train.steps=2"];
    let (code, said) = world.signalled("INT train 2, sample 4", &flags(&sets));
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("step 2 is checkpointed"), "{said}");
    let samples = world.run_dir().join("samples");
    assert!(names(&samples.join("step-000002")).len() < 12);

    succeeds(&mut world.train(&[&["--resume"][..], &flags(&sets)].concat()));
    assert_eq!(names(&samples.join("step-000000")).len(), 12);
    assert_eq!(names(&samples.join("step-000002")).len(), 12);
    assert_eq!(metrics(&world.run_dir()).len(), 2);
}

#[test]
fn a_signal_before_the_first_step_ends_in_a_checkpoint_of_step_0() {
    let world = World::new(12);
    let sets = ["sample.every=2", "sample.steps=4", "sample.seeds=[0, 1, 2]", "train.steps=2"];
    let (code, said) = world.signalled("TERM sample 0", &flags(&sets));
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("step 0 is checkpointed"), "{said}");
    let said = succeeds(&mut world.train(&[&["--resume"][..], &flags(&sets)].concat()));
    assert!(said.contains("resuming at step 0"), "{said}");
    assert_eq!(names(&world.run_dir().join("samples/step-000000")).len(), 12);
}

#[test]
fn spent_pairs_end_a_run_and_a_lower_limit_continues_it() {
    let world = World::new(24);
    let sets = ["validate.every=2", "train.steps=6", "optim.lr=1e-3", "method.beta=20000"];
    let whole = world.trained("whole", &sets);
    let factor = |step: usize| metrics(&whole)[step - 1]["val_gradient_factor"].as_f64().unwrap();
    assert!(0.5 > factor(2) && factor(2) > factor(6) && factor(6) > 0.0);

    let limit = format!("validate.stop_at_gradient_factor={}", (factor(2) + factor(4)) / 2.0);
    let limited = [&sets[..], &[limit.as_str()]].concat();
    let said = succeeds(&mut world.train(&flags(&limited)));
    assert!(said.contains("step 4: val_gradient_factor = ") && said.contains("finished at step 4"), "{said}");
    assert_eq!(metrics(&world.run_dir()).len(), 4);
    assert!(world.run_dir().join("checkpoint-000004/state.json").exists());
    let said = succeeds(&mut world.train(&[&["--resume"][..], &flags(&limited)].concat()));
    assert!(said.contains("already at step 4"), "{said}");

    let lower = [&sets[..], &["validate.stop_at_gradient_factor=1e-9"]].concat();
    let said = succeeds(&mut world.train(&[&["--resume"][..], &flags(&lower)].concat()));
    assert!(said.contains("resuming at step 4") && said.contains("finished at step 6"), "{said}");
    assert_eq!(timeless(&world.run_dir()), timeless(&whole));
    assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")));
}

#[test]
fn a_second_signal_leaves_at_once() {
    let world = World::new(12);
    let sets = ["sample.every=2", "sample.steps=900", "sample.seeds=[0, 1, 2]", "data.resolution=64"];
    let mut running = world.start(&flags(&sets));
    running.wait_for("sample 0/");
    running.signal(libc::SIGINT);
    running.wait_for("stopping after the current step; press Ctrl-C again to quit now");
    let began = Instant::now();
    running.signal(libc::SIGTERM);
    let (code, said) = running.end();
    assert_eq!(code, Some(143), "{said}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(!said.contains("is checkpointed"), "{said}");
}

#[test]
fn a_second_process_on_the_same_run_is_refused_with_the_firsts_pid() {
    let world = World::new(12);
    let sets = ["sample.every=2", "sample.steps=900", "sample.seeds=[0, 1, 2]", "data.resolution=64"];
    let mut running = world.start(&flags(&sets));
    running.wait_for("sample 0/");
    for flag in ["--json", "--resume", "--resume=auto"] {
        let said = world.refused(&mut world.train(&[flag]), 1);
        let expected = format!("DIR/run: another process (pid {}) is writing this run", running.pid());
        assert!(said.contains(&expected), "{said}");
    }
    running.signal(libc::SIGKILL);
    running.end();
    // The lock went with the process: the run, which has no step yet, can begin anew.
    succeeds(&mut world.train(&[]));
}
