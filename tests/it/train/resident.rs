//! Runs one after the other in one process, on what stays loaded between them.

use crate::support::{World, files, timeless};
use diffpref::progress::{Progress, Silent, Stop};
use diffpref::run_folder::Resume;
use diffpref::settings;
use diffpref::train::{self, Host, Outcome, Resident};
use diffpref::world::Alone;

/// LoRA, a full fine-tune on the weights that the LoRA left, one that stores errors of its reference, and another LoRA on
/// the weights that the fine-tune left.
const RUNS: [(&str, &[&str]); 4] = [
    ("lora", &["train.threads=1", "train.steps=2", "lora.rank=4", "optim.lr=1e-3"]),
    ("full", &["train.threads=1", "train.steps=2", "lora.rank=0", "optim.lr=1e-4"]),
    ("stored", &["train.threads=1", "train.steps=2", "lora.rank=0", "optim.lr=1e-4", "reference.ledger=\"on\""]),
    ("other", &["train.threads=1", "train.steps=3", "lora.rank=2", "train.seed=7", "optim.lr=1e-3"]),
];

/// Fails in the second step, as a fault of the program would.
struct Faulty;

impl Progress for Faulty {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn line(&self, _: &str) {}
    fn metrics(&self, line: &str) {
        assert!(!line.contains("\"step\":2,"), "a fault in step 2");
    }
}

fn run(
    world: &World,
    resident: &mut Resident,
    name: &str,
    sets: &[&str],
    progress: &dyn Progress,
) -> anyhow::Result<Outcome> {
    let out = world.path(&format!("resident-{name}"));
    let mut sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    sets.push(format!("train.out={:?}", out.display().to_string()));
    let opened = train::open(&settings::load(&world.path("run.toml"), &sets)?, &Silent)?;
    train::run(resident, opened, Resume::No, &Host { world: &Alone, progress, stop: &Stop::default() })
}

#[test]
fn a_panic_ends_its_run_and_the_next_one_on_the_resident_is_whole() {
    let world = World::new(12);
    tch::set_num_threads(1);
    let mut resident = Resident::default();
    let (name, sets) = RUNS[0];
    let error = run(&world, &mut resident, "faulty", sets, &Faulty).unwrap_err().to_string();
    assert!(error.contains("a fault of the program: a fault in step 2"), "{error}");
    run(&world, &mut resident, name, sets, &Silent).unwrap();
    let (own, shared) = (world.trained(name, sets), world.path(&format!("resident-{name}")));
    assert_eq!(files(&own.join("final")), files(&shared.join("final")));
}

#[test]
fn runs_on_one_resident_end_with_the_bytes_of_processes_of_their_own() {
    let world = World::new(12);
    tch::set_num_threads(1);
    let mut resident = Resident::default();
    for (name, sets) in RUNS {
        let outcome = run(&world, &mut resident, name, sets, &Silent).unwrap();
        assert!(matches!(outcome, Outcome::Finished { .. }));
    }
    for (name, sets) in RUNS {
        let (own, shared) = (world.trained(name, sets), world.path(&format!("resident-{name}")));
        assert_eq!(files(&own.join("final")), files(&shared.join("final")), "{name}");
        assert_eq!(timeless(&own), timeless(&shared), "{name}");
    }
}
