//! The reference ledger: a run that reads stored errors ends with the bytes of the run that computed them.

use crate::support::{Running, World, diffpref, files, flags, json, names, succeeds, timeless};
use serde_json::Value;
use std::path::{Path, PathBuf};

const ON: &str = "reference.ledger=\"on\"";
/// Validation too: its start errors are stored.
const SETS: [&str; 3] = [ON, "validate.every=3", "validate.max_pairs=2"];

/// Weights, optimizer and figures of a finished run are equal.
fn assert_same(a: &Path, b: &Path) {
    assert_eq!(timeless(a), timeless(b));
    let checkpoint = names(a).into_iter().filter(|name| name.starts_with("checkpoint-")).next_back().unwrap();
    for part in ["final", &checkpoint] {
        let of = |run: &Path| {
            let mut files = files(&run.join(part));
            files.remove("README.md");
            files
        };
        assert_eq!(of(a), of(b), "{part}");
    }
}

/// Errors read and computed by a run.
fn counts(run: &Path) -> (u64, u64) {
    let used = json(&run.join("ledger.json"));
    (used["read"].as_u64().unwrap(), used["computed"].as_u64().unwrap())
}

/// Runs into a folder: stderr with the world's folder as DIR.
fn said(world: &World, name: &str, sets: &[&str], more: &[&str]) -> String {
    let out = format!("train.out={:?}", world.path(name).display().to_string());
    let said = succeeds(world.train(&flags(&[&[out.as_str()], sets].concat())).args(more));
    said.replace(&world.path("").display().to_string(), "DIR/")
}

/// The only ledger of the world's cache.
fn ledger(world: &World) -> PathBuf {
    let folder = world.path("cache/ledger");
    let [name] = names(&folder).try_into().unwrap();
    folder.join(name)
}

fn shards(world: &World, prefix: &str) -> Vec<PathBuf> {
    let folder = ledger(world);
    names(&folder).into_iter().filter(|name| name.starts_with(prefix)).map(|name| folder.join(name)).collect()
}

#[test]
fn a_warm_run_ends_with_the_bytes_of_the_run_that_filled_its_ledger() {
    let world = World::new(12);
    for (name, more) in [
        ("lora", &["lora.rank=2"][..]),
        ("full", &["lora.rank=0", "optim.lr=1e-4"]),
        ("init", &["lora.rank=4", "optim.lr=1e-3", "model.dtype=\"bfloat16\""]),
    ] {
        let init = format!("lora.init={:?}", crate::support::lora().display().to_string());
        let mut sets = [&SETS[..], more].concat();
        if name == "init" {
            sets.push(&init);
        }
        let cold = world.trained(&format!("cold-{name}"), &sets);
        let warm = world.trained(&format!("warm-{name}"), &sets);
        assert_same(&cold, &warm);
        let (read, computed) = counts(&cold);
        // 3 steps of 4 pairs, and 2 held-out pairs of 2 draws. The full fine-tune reads what the LoRA has stored: both
        // compare with the same start model.
        let all = 3 * 4 * 2 + 2 * 2 * 2;
        assert_eq!((read, computed), if name == "full" { (all, 0) } else { (0, all) }, "{name}");
        assert_eq!(counts(&warm), (all, 0), "{name}");
    }
}

#[test]
fn with_one_item_per_micro_batch_the_bytes_are_those_without_a_ledger() {
    let world = World::new(12);
    let one = ["train.micro_batch=1", "train.grad_accum=4", "validate.every=3", "validate.max_pairs=2"];
    let off = world.trained("off", &one);
    for name in ["cold", "warm"] {
        let on = world.trained(name, &[&one[..], &[ON]].concat());
        assert_same(&off, &on);
    }
    // Other micro-batches ask for the same errors.
    let two = world.trained("two", &[&SETS[..], &["train.micro_batch=2", "train.grad_accum=2"]].concat());
    assert_eq!(counts(&two), (32, 0));
}

#[test]
fn another_beta_rate_or_method_with_the_same_draws_reads_the_same_errors() {
    let world = World::new(12);
    world.trained("first", &SETS);
    for (name, more) in [
        ("beta", &["method.beta=2000", "optim.lr=1e-3"][..]),
        ("method", &["method.name=ipo"]),
        ("adafactor", &["optim.name=adafactor", "lora.rank=1", "ema.decay=0.5"]),
    ] {
        let run = world.trained(name, &[&SETS[..], more].concat());
        assert_eq!(counts(&run), (32, 0), "{name}");
    }
    let shards_before = shards(&world, "").len();
    let other = world.trained("other", &[&SETS[..], &["train.seed=5"]].concat());
    assert_eq!(counts(&other), (8, 24), "validation draws do not depend on the seed");
    assert_eq!(shards(&world, "").len(), shards_before + 1);
}

#[test]
fn draws_that_repeat_are_computed_once() {
    let world = World::new(8);
    let sets = [ON, "data.draws_per_pair=1", "train.steps=6", "validate.fraction=0"];
    let run = world.trained("run", &sets);
    assert_eq!(counts(&run), (6 * 4 * 2 - 8 * 2, 8 * 2));
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes_and_reads_what_it_had_stored() {
    let world = World::new(16);
    for (name, more) in [("lora", "lora.rank=2"), ("full", "lora.rank=0")] {
        let sets = [more, "optim.lr=1e-4", ON, "train.steps=4", "train.checkpoint_every=2", "validate.every=2"];
        let other_seed = [&sets[..], &["train.seed=9"]].concat();
        let whole = world.trained(&format!("whole-{name}"), &other_seed);
        std::fs::remove_dir_all(world.path("cache/ledger")).unwrap();
        let out = format!("train.out={:?}", world.path(name).display().to_string());
        let sets = [&other_seed[..], &[out.as_str()]].concat();
        let (code, text) = world.signalled("KILL train 3 + 1", &flags(&sets));
        assert_eq!(code, None, "{text}");
        succeeds(world.train(&flags(&sets)).arg("--resume"));
        assert_same(&whole, &world.path(name));
        let (read, computed) = counts(&world.path(name));
        assert!(computed > 0 && read == 0, "steps 3 and 4 were not stored when the run was killed: {read}");
        // The same again: now all is stored.
        let again = world.path("again");
        let out = format!("train.out={:?}", again.display().to_string());
        succeeds(&mut world.train(&flags(&[&other_seed[..], &[out.as_str()]].concat())));
        assert_same(&whole, &again);
        assert_eq!(counts(&again).1, 0);
        std::fs::remove_dir_all(again).unwrap();
    }
}

#[test]
fn two_runs_that_fill_one_ledger_at_once_are_both_right() {
    let world = World::new(12);
    let off = world.trained("off", &["train.micro_batch=1", "train.grad_accum=4"]);
    let start = |name: &str| {
        let out = format!("train.out={:?}", world.path(name).display().to_string());
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("diffpref"));
        command.arg("train").arg(world.path("run.toml")).env("OMP_NUM_THREADS", "1");
        command.args(flags(&[out.as_str(), ON, "train.micro_batch=1", "train.grad_accum=4"]));
        Running::spawn(command)
    };
    let runs = ["a", "b"].map(|name| (name, start(name)));
    for (name, run) in runs {
        let (code, text) = run.end();
        assert_eq!(code, Some(0), "{text}");
        assert_same(&off, &world.path(name));
    }
    let warm = world.trained("warm", &[ON, "train.micro_batch=1", "train.grad_accum=4"]);
    assert_same(&off, &warm);
    assert_eq!(counts(&warm).1, 0);
}

#[test]
fn a_damaged_shard_is_said_and_its_errors_are_computed_again() {
    let world = World::new(12);
    let whole = world.trained("whole", &SETS);
    let [shard] = shards(&world, "seed-0-").try_into().unwrap();
    let bytes = std::fs::read(&shard).unwrap();

    let mut flipped = bytes.clone();
    let last = bytes.len() - 1;
    flipped[last] ^= 0x10;
    std::fs::write(&shard, flipped).unwrap();
    let text = said(&world, "flipped", &SETS, &[]);
    let file = shard.file_name().unwrap().to_string_lossy();
    assert!(text.contains("damaged ledger file DIR/cache/ledger/") && text.contains(&*file), "{text}");
    assert!(text.contains(": 1 of 12 records are computed again"), "{text}");
    assert_same(&whole, &world.path("flipped"));
    assert_eq!(counts(&world.path("flipped")), (30, 2));
    assert!(!shard.exists(), "its whole records moved to another shard");

    let [shard] = shards(&world, "seed-0-").try_into().unwrap();
    std::fs::write(&shard, &std::fs::read(&shard).unwrap()[..200]).unwrap();
    let text = said(&world, "cut", &SETS, &[]);
    assert!(
        text.contains("damaged ledger file, its errors are computed again: ") && text.contains("truncated"),
        "{text}"
    );
    assert_same(&whole, &world.path("cut"));
    assert_eq!(counts(&world.path("cut")), (8, 24));
    let text = said(&world, "mended", &SETS, &[]);
    assert!(!text.contains("damaged"), "{text}");
    assert_eq!(counts(&world.path("mended")), (32, 0));
}

#[test]
fn a_ledger_of_another_model_seed_or_type_is_not_read_and_that_is_said_once() {
    let world = World::new(12);
    world.trained("first", &SETS);
    let once = |text: &str, part: &str| {
        assert_eq!(text.lines().filter(|line| line.contains(part)).count(), 1, "{part}: {text}");
    };
    let text = said(&world, "seed", &[&SETS[..], &["train.seed=3"]].concat(), &[]);
    once(&text, "ledger: errors of seed 0 are not read: this run draws with seed 3");
    let text = said(&world, "dtype", &[&SETS[..], &["model.dtype=\"float64\""]].concat(), &[]);
    once(&text, "(dtype float float, here double double)");
    assert_eq!(counts(&world.path("dtype")), (0, 32));
    let text = said(&world, "threads", &[&SETS[..], &["train.threads=2"]].concat(), &[]);
    once(&text, "threads 1, here 2");
    assert_eq!(counts(&world.path("threads")), (0, 32));
    let model = world.path("model");
    crate::support::copy(&crate::support::model(), &model);
    let scheduler = model.join("scheduler/scheduler_config.json");
    let changed = std::fs::read_to_string(&scheduler).unwrap().replace("0.012", "0.011");
    std::fs::write(&scheduler, changed).unwrap();
    let path = format!("model.path={:?}", model.display().to_string());
    let text = said(&world, "model", &[&SETS[..], &[&path]].concat(), &[]);
    once(&text, "another model");
    assert_eq!(counts(&world.path("model")), (0, 32));
}

#[test]
fn a_ledger_that_cannot_be_written_costs_no_run() {
    let world = World::new(12);
    let whole = world.trained("whole", &SETS);
    std::fs::remove_dir_all(world.path("cache/ledger")).unwrap();
    std::fs::write(world.path("cache/ledger"), "a file in the way").unwrap();
    let text = said(&world, "run", &SETS, &[]);
    assert_eq!(text.matches("the ledger cannot be written: cannot make DIR/cache/ledger/").count(), 1, "{text}");
    assert!(
        text.contains("the run continues without storing errors. Free space there, or set data.cache_dir"),
        "{text}"
    );
    assert_same(&whole, &world.path("run"));
}

#[test]
fn a_ledger_filled_first_gives_the_same_bytes_and_a_full_fine_tune_loads_no_reference() {
    let world = World::new(12);
    for (name, more) in [("lora", "lora.rank=2"), ("full", "lora.rank=0")] {
        let sets = [&SETS[..], &[more, "optim.lr=1e-4", "train.seed=4"]].concat();
        let cold = world.trained(&format!("cold-{name}"), &sets);
        std::fs::remove_dir_all(world.path("cache/ledger")).unwrap();
        let text = said(&world, &format!("first-{name}"), &sets, &["--ledger-first"]);
        assert!(text.contains("ledger 8/8"), "6 micro-batches and 2 held-out pairs: {text}");
        assert_same(&cold, &world.path(&format!("first-{name}")));
        assert_eq!(counts(&world.path(&format!("first-{name}"))), (32, 32));
        let plan = |more: &[&str]| -> Value {
            let output = world.train(&flags(&sets)).args(["--dry-run", "--json"]).args(more).output().unwrap();
            serde_json::from_slice(&output.stdout).unwrap()
        };
        let (plain, first) = (plan(&[]), plan(&["--ledger-first"]));
        let mib = |plan: &Value, key: &str| plan[key].as_f64().unwrap();
        assert_eq!(mib(&first, "reference_mib"), 0.0);
        assert_eq!(mib(&plain, "reference_mib") == mib(&plain, "weights_mib"), name == "full");
        assert!(first["ledger"].as_str().unwrap().ends_with("ledger, filled before the first step"));
    }
}

#[test]
fn a_filling_that_was_stopped_goes_on_where_it_was() {
    let world = World::new(12);
    let sets = [&SETS[..], &["lora.rank=0", "optim.lr=1e-4"]].concat();
    let cold = world.trained("cold", &sets);
    std::fs::remove_dir_all(world.path("cache/ledger")).unwrap();
    let (code, text) = world.signalled("TERM ledger 4", &[&["--ledger-first"], &flags(&sets)[..]].concat());
    assert_eq!(code, Some(143), "{text}");
    let stored = counts(&world.run_dir()).1;
    assert!(stored == 16, "{stored}: 4 micro-batches of 2 pairs");
    // With --resume=auto, and with the rest of the run resumed after a kill.
    let more = ["--ledger-first", "--resume=auto"];
    let (code, text) = world
        .signalled("KILL train 2", &[&more[..], &flags(&[&sets[..], &["train.checkpoint_every=1"]].concat())].concat());
    assert_eq!(code, None, "{text}");
    succeeds(world.train(&flags(&sets)).args(more));
    assert_eq!(timeless(&cold), timeless(&world.run_dir()));
    assert_eq!(files(&cold.join("final/unet")), files(&world.run_dir().join("final/unet")));
}

#[test]
fn where_a_ledger_cannot_serve_the_plan_says_why_and_asking_for_it_is_refused() {
    let world = World::new(12);
    let plan = |sets: &[&str]| {
        let output = world.train(&flags(sets)).arg("--dry-run").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find(|line| line.starts_with("ledger")).unwrap_or_else(|| panic!("{text}")).to_string()
    };
    assert_eq!(plan(&[]), "ledger      off; reference.ledger = \"on\" would store errors of the reference");
    let cases: [(&[&str], &str, &str); 4] = [
        (&["method.name=inpo"], "inpo", "its noisy latents are inversions by the policy"),
        (&["reference.kind=updated"], "dpo", "the reference moves (reference.kind = \"updated\")"),
        (&["method.name=npo", "reference.kind=updated"], "npo", "the reference moves (reference.kind = \"updated\")"),
        (&["method.name=sft"], "sft", "the method compares with no reference"),
    ];
    for (sets, method, why) in cases {
        assert_eq!(plan(sets), format!("ledger      off: {why}"), "{sets:?}");
        let text = world.refused(world.train(&flags(sets)).arg("--ledger-first"), 2);
        let expected =
            format!("--ledger-first does not go with method.name = \"{method}\": {why}. Leave the option out.");
        assert!(text.contains(&expected), "{text}");
        if method != "sft" {
            let text = world.refused(&mut world.train_with(&[sets, &[ON]].concat()), 2);
            let expected = format!(
                "reference.ledger = \"on\" does not go with method.name = \"{method}\": {why}. Remove the key."
            );
            assert!(text.contains(&expected), "{text}");
        }
    }
    let text = world.refused(world.train(&flags(&["reference.ledger=\"off\""])).arg("--ledger-first"), 2);
    assert!(text.contains("--ledger-first fills a ledger that reference.ledger = \"off\" does not use."), "{text}");
    assert!(!world.path("cache/ledger").exists() && !world.run_dir().exists());
}

#[test]
fn the_ledger_may_change_on_resume_and_a_line_says_so() {
    let world = World::new(12);
    world.trained("run", &["train.steps=2"]);
    let text = succeeds(world.train(&flags(&["train.steps=3", ON])).arg("--resume"));
    let line = "reference.ledger: the run has \"auto\", the config has \"on\"";
    assert!(text.lines().any(|l| l.starts_with(line) && l.ends_with("equal up to rounding")), "{text}");
}

#[test]
fn cache_ledger_lists_what_is_stored_and_removes_what_no_run_names() {
    let world = World::new(12);
    let call = |more: &[&str]| {
        let mut command = diffpref();
        command.args(["cache", "ledger", "--cache-dir"]).arg(world.path("cache"));
        command.args(more);
        command
    };
    let listed = |more: &[&str]| -> Value {
        let output = call(&[more, &["--json"]].concat()).assert().success().get_output().stdout.clone();
        serde_json::from_slice(&output).unwrap()
    };
    assert_eq!(listed(&[])["ledgers"], serde_json::json!([]));
    let runs = world.path("runs").display().to_string();
    let with_runs = ["--runs", runs.as_str()];
    world.trained("runs/a", &SETS);
    world.trained("runs/b", &SETS);
    world.trained("runs/c", &[&SETS[..], &["train.seed=1"]].concat());
    world.trained("runs/d", &[&SETS[..], &["model.dtype=\"float64\""]].concat());

    let all = listed(&with_runs);
    assert_eq!(all["ledgers"].as_array().unwrap().len(), 2);
    let single = |all: &Value| {
        let ledgers = all["ledgers"].as_array().unwrap();
        ledgers.iter().find(|of| of["origin"]["dtype"] == "float float").unwrap().clone()
    };
    let parts = |of: &Value| -> Vec<(String, u64, u64)> {
        let parts = of["parts"].as_array().unwrap().iter();
        let number = |part: &Value, key: &str| part[key].as_u64().unwrap();
        parts.map(|p| (p["name"].as_str().unwrap().into(), number(p, "records"), number(p, "errors"))).collect()
    };
    let of = single(&all);
    let part = |name: &str, records, errors| (name.to_string(), records, errors);
    assert_eq!(parts(&of), [part("seed 0", 12, 24), part("seed 1", 12, 24), part("held out", 2, 8)]);
    assert_eq!(of["runs"].as_array().unwrap().len(), 3);
    // a computes 32, b reads 32, c reads the 8 held-out ones.
    assert_eq!(of["hit_rate"].as_f64().unwrap(), 40.0 / 96.0);
    let text = String::from_utf8(call(&with_runs).assert().success().get_output().stdout.clone()).unwrap();
    assert!(
        text.contains("float float, cpu")
            && text.contains("42 % read")
            && text.contains("  held out: 2 records, 8 errors"),
        "{text}"
    );

    std::fs::remove_dir_all(world.path("runs/c")).unwrap();
    std::fs::remove_dir_all(world.path("runs/d")).unwrap();
    let pruned = listed(&[&with_runs[..], &["--prune"]].concat());
    assert_eq!(pruned["removed"].as_array().unwrap().len(), 3, "{pruned}");
    assert_eq!(parts(&single(&pruned)), [part("seed 0", 12, 24), part("held out", 2, 8)]);
    assert_eq!(names(&world.path("cache/ledger")).len(), 1);
    let after = world.trained("runs/e", &SETS);
    assert_eq!(counts(&after), (32, 0));

    let text = world.refused(&mut call(&["--runs", "nowhere", "--prune"]), 2);
    assert!(text.contains("--runs nowhere: there is no such folder; what its runs name would be removed."), "{text}");
    let mut nameless = call(&["--prune"]);
    let text = world.refused(nameless.current_dir(world.path("data")), 2);
    assert!(text.contains("--runs runs: there is no such folder"), "{text}");
    assert_eq!(names(&world.path("cache/ledger")).len(), 1, "a refused call removes nothing");
}
