//! Runs one after the other in one process, on what stays loaded between them.

use crate::support::{World, files, timeless};
use diffpref::progress::{Silent, Stop};
use diffpref::settings;
use diffpref::train::{self, Host, Outcome, Resident, Resume};
use diffpref::world::Alone;

/// LoRA, a full fine-tune on the weights that the LoRA left, and another LoRA on those that the fine-tune left.
const RUNS: [(&str, &[&str]); 3] = [
    ("lora", &["train.threads=1", "train.steps=2", "lora.rank=4", "optim.lr=1e-3"]),
    ("full", &["train.threads=1", "train.steps=2", "lora.rank=0", "optim.lr=1e-4"]),
    ("other", &["train.threads=1", "train.steps=3", "lora.rank=2", "train.seed=7", "optim.lr=1e-3"]),
];

#[test]
fn runs_on_one_resident_end_with_the_bytes_of_processes_of_their_own() {
    let world = World::new(12);
    tch::set_num_threads(1);
    let (mut resident, stop) = (Resident::default(), Stop::default());
    for (name, sets) in RUNS {
        let out = world.path(&format!("resident-{name}"));
        let mut sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        sets.push(format!("train.out={:?}", out.display().to_string()));
        let document = settings::load(&world.path("run.toml"), &sets).unwrap();
        let opened = train::open(&document, &Silent).unwrap();
        let host = Host { world: &Alone, progress: &Silent, stop: &stop };
        let outcome = train::run(&mut resident, opened, Resume::No, &host).unwrap();
        assert!(matches!(outcome, Outcome::Finished { .. }));
    }
    for (name, sets) in RUNS {
        let (own, shared) = (world.trained(name, sets), world.path(&format!("resident-{name}")));
        assert_eq!(files(&own.join("final")), files(&shared.join("final")), "{name}");
        assert_eq!(timeless(&own), timeless(&shared), "{name}");
    }
}
