//! A sweep that ends in the middle, and starts again.

use super::{FOUR, answer, folder, sweep, trial, world};
use crate::support::{files, signalled, succeeds, timeless};
use std::os::unix::process::CommandExt;

#[test]
fn a_killed_sweep_continues_the_running_trial_and_ends_with_the_same_bytes() {
    let (whole, broken) = (world(FOUR), world(FOUR));
    succeeds(&mut sweep(&whole, &[]));
    // In the third step of the second trial, once by SIGKILL and once by SIGTERM.
    let (code, _) = signalled("KILL train 3, train 2", &mut sweep(&broken, &["--retry-failed"]));
    assert_eq!(code, None);
    let (code, said) = signalled("TERM train 3, train 1", &mut sweep(&broken, &[]));
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("trial 2, train: its worker is gone, it is continued here"), "{said}");
    assert!(!said.contains("trial 1 ("), "{said}");
    let said = succeeds(&mut sweep(&broken, &[]));
    assert!(said.contains("resuming at step") && !said.contains("trial 2 ("), "{said}");
    assert_eq!(answer(&whole), answer(&broken));
    for number in 1..=4 {
        assert_eq!(files(&trial(&whole, number).join("final")), files(&trial(&broken, number).join("final")));
        assert_eq!(timeless(&trial(&whole, number)), timeless(&trial(&broken, number)));
    }
}

#[test]
fn a_full_disk_ends_the_sweep_and_not_its_trials() {
    let whole = world(FOUR);
    succeeds(&mut sweep(&whole, &[]));
    let broken = world(FOUR);
    succeeds(&mut sweep(&broken, &["--trial", "1"]));
    // The database stays below the limit, the weights of a trial do not.
    let limit = std::fs::metadata(trial(&broken, 1).join("final/pytorch_lora_weights.safetensors")).unwrap().len() / 2;
    let database = std::fs::metadata(folder(&broken).join("sweep.sqlite")).unwrap().len();
    assert!(database < limit, "{database} {limit}");
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("diffpref"));
    command
        .arg("sweep")
        .arg(broken.path("sweep.toml"))
        .env("OMP_NUM_THREADS", "1")
        .env("XDG_CACHE_HOME", broken.path("cache"));
    // SAFETY: setrlimit may be called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let limits = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limits) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let said = broken.refused(&mut assert_cmd::Command::from_std(command), 1);
    assert!(said.contains("trial 2, train: the disk is full. Free space and start the sweep again"), "{said}");
    assert!(!said.contains("trial 3"), "{said}");
    succeeds(&mut sweep(&broken, &[]));
    assert_eq!(answer(&whole), answer(&broken));
}

#[test]
fn a_damaged_database_is_rebuilt_from_the_trials() {
    let world = world(FOUR);
    succeeds(&mut sweep(&world, &["--trial", "2"]));
    succeeds(&mut sweep(&world, &["--trial", "3"]));
    std::fs::write(folder(&world).join("sweep.sqlite"), vec![7u8; 8192]).unwrap();
    let said = succeeds(&mut sweep(&world, &[]));
    assert!(said.contains("sweep.sqlite is damaged"), "{said}");
    assert!(
        said.contains("trial 1 (")
            && said.contains("trial 4 (")
            && !said.contains("trial 2 (")
            && !said.contains("trial 3 ("),
        "{said}"
    );
    assert!(folder(&world).join("sweep.damaged").is_file());
}
