//! Several workers on one sweep.

use super::{FOUR, answer, folder, sweep, trial, worker, world};
use crate::support::{Running, files, json, names, succeeds};
use rusqlite::Connection;

fn database(world: &crate::support::World) -> Connection {
    Connection::open(folder(world).join("sweep.sqlite")).unwrap()
}

#[test]
fn workers_share_the_trials_and_the_answer_is_the_same() {
    let (one, two) = (world(FOUR), world(FOUR));
    succeeds(&mut sweep(&one, &[]));
    succeeds(&mut sweep(&two, &["--jobs", "2"]));
    assert_eq!(answer(&one), answer(&two));
    assert!(names(&folder(&two).join("workers")).is_empty());
    let claimed: i64 =
        database(&two).query_row("SELECT count(*) FROM work WHERE status = 'finished'", [], |row| row.get(0)).unwrap();
    assert_eq!(claimed, 4);
}

#[test]
fn a_trial_of_a_killed_worker_is_taken_over_and_continued() {
    let world = world(FOUR);
    succeeds(&mut sweep(&world, &["--trial", "1"]));
    let (code, _) = crate::support::signalled("KILL train 2", &mut worker(&world));
    assert_eq!(code, None);
    let said = succeeds(&mut worker(&world));
    assert!(said.contains("trial 2, train: its worker is gone, it is continued here"), "{said}");
    assert!(said.contains("nothing is left: 3 parts finished here, 0 failed"), "{said}");
}

/// The worker of another machine cannot be asked; its heartbeats stand still. Its clock may show any time: none is read.
#[test]
fn a_silent_worker_of_another_machine_loses_its_trial_after_the_lease_whatever_its_clock_shows() {
    let text = format!("lease_s = 1\n{FOUR}");
    let world = world(&text);
    succeeds(&mut sweep(&world, &["--trial", "1"]));
    database(&world)
        .execute(
            "UPDATE work SET status = 'claimed', owner = 'far', boot = 'another machine', beats = 12 WHERE trial = 2",
            [],
        )
        .unwrap();
    let started = std::time::Instant::now();
    let said = succeeds(&mut worker(&world));
    assert!(started.elapsed().as_secs_f64() >= 1.0);
    let others = said.find("trial 4 (").unwrap();
    assert!(said.find("trial 2, train: its worker is gone").unwrap() > others, "free trials first: {said}");
    assert!(trial(&world, 2).join("final").is_dir());
}

#[test]
fn a_worker_of_another_machine_that_gives_signs_of_life_keeps_its_trial() {
    let text = format!("lease_s = 1\n{FOUR}");
    let world = world(&text);
    succeeds(&mut sweep(&world, &["--trial", "1"]));
    let far = database(&world);
    far.execute("UPDATE work SET status = 'claimed', owner = 'far', boot = 'another machine' WHERE trial = 2", [])
        .unwrap();
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("diffpref"));
    command
        .arg("sweep-worker")
        .arg(folder(&world))
        .env("OMP_NUM_THREADS", "1")
        .env("XDG_CACHE_HOME", world.path("cache"));
    let mut running = Running::spawn(command);
    running.wait_for("waiting for other workers: trial 2, train");
    for _ in 0..15 {
        far.execute("UPDATE work SET beats = beats + 1 WHERE trial = 2", []).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(!trial(&world, 2).exists());
    far.execute("UPDATE work SET status = 'failed', owner = '', reason = 'far away' WHERE trial = 2", []).unwrap();
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("its worker is gone"), "{said}");
    succeeds(&mut sweep(&world, &["--answer"]));
    assert_eq!(json(&folder(&world).join("answer.json"))["failed"][0]["reason"], "far away");
}

#[test]
fn single_trials_of_a_cluster_make_the_same_sweep() {
    let (whole, single) = (world(FOUR), world(FOUR));
    succeeds(&mut sweep(&whole, &[]));
    for number in ["3", "1", "4", "2"] {
        succeeds(&mut sweep(&single, &["--trial", number]));
    }
    let said = succeeds(&mut sweep(&single, &[]));
    assert!(!said.contains(": train"), "{said}");
    assert_eq!(answer(&whole), answer(&single));
    assert_eq!(files(&trial(&whole, 3).join("final")), files(&trial(&single, 3).join("final")));
}
