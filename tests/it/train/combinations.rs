//! Timestep laws, references, safeguards, weights and labels: which go together, what is refused with exit code 2 before
//! anything is written, and what resolved.toml says of them.

use crate::support::{self, Messages, World, files};

/// stderr of a dry run with these overrides, refused with exit code 2; nothing was written.
fn refused_together(world: &World, sets: &[&str]) -> String {
    let arguments: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).chain(["--dry-run"]).collect();
    let said = world.refused(&mut world.train(&arguments), 2);
    assert!(!world.run_dir().exists(), "{sets:?}");
    said
}

#[test]
fn plug_ins_that_do_not_suit_the_method_are_refused_with_the_reason() {
    let world = World::new(8);
    let mut messages = Messages::default();
    for sets in [
        &["data.ties=keep"][..],
        &["method.name=rankdpo", "data.labels=score:a"],
        &["method.name=sft", "timesteps.weighting=timestep_aware"],
        &["method.name=sft", "safeguard.name=sdpo"],
        &["method.name=kto", "safeguard.name=sdpo"],
        &["method.name=mapo", "reference.kind=updated"],
        &["method.name=rankdpo", "weights.source=column"],
        &["weights.as_published=true"],
    ] {
        let said = refused_together(&world, sets);
        messages.add(&format!("{sets:?}"), &said);
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn keys_that_mean_nothing_beside_the_others_are_refused() {
    let world = World::new(8);
    let mut messages = Messages::default();
    for sets in [
        &["timesteps.gamma=0.8"][..],
        &["timesteps.law=list", "timesteps.values=[1]", "timesteps.min=0"],
        &["timesteps.values=[1]"],
        &["reference.every=4"],
        &["safeguard.mu=0.5"],
        &["weights.source=column", "weights.c=1"],
        &["train.pair_split=on", "method.name=sft"],
        &["validate.stop_at_gradient_factor=0.2", "validate.every=0"],
        &["validate.stop_at_gradient_factor=0.2", "validate.every=1", "method.name=mapo"],
    ] {
        let said = refused_together(&world, sets);
        messages.add(&format!("{sets:?}"), &said);
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn timesteps_that_the_model_does_not_have_are_refused() {
    let world = World::new(8);
    let mut messages = Messages::default();
    for sets in [
        &["timesteps.max=1000"][..],
        &["timesteps.min=500", "timesteps.max=400"],
        &["timesteps.min=1000"],
        &["timesteps.law=list"],
        &["timesteps.law=list", "timesteps.values=[]"],
        &["timesteps.law=list", "timesteps.values=[5, 1000]"],
        &["timesteps.law=discounted", "timesteps.gamma=0"],
        &["timesteps.law=discounted", "timesteps.n_bins=0"],
    ] {
        let said = refused_together(&world, sets);
        messages.add(&format!("{sets:?}"), &said);
    }
    insta::assert_snapshot!(messages);
}

/// Every pair with scores of two scorers; "flat" gives every image the same.
fn scored(world: &World, n: usize) {
    let row = |i: usize| {
        let scores = serde_json::json!({"hps": [0.2 + 0.01 * i as f64, 0.3], "flat": [1, 1]});
        let (winner, loser) = (format!("w{i}.png"), format!("l{i}.png"));
        format!(
            "{}\n",
            serde_json::json!({"id": i, "prompt": format!("p {i}"), "winner": winner, "loser": loser, "scores": scores})
        )
    };
    std::fs::write(world.pairs(), (0..n).map(row).collect::<String>()).unwrap();
}

#[test]
fn scorers_and_their_ranges_are_checked_together_with_the_labels() {
    let world = World::new(8);
    scored(&world, 8);
    for (sets, expected) in [
        (
            &["method.name=mappo"][..],
            "method.name = \"mappo\" reads scores: method.scorer is missing. Name a scorer of the rows' `scores`.",
        ),
        (
            &["method.name=smpo"],
            "method.name = \"smpo\" trains on pairs that a scorer has ranked: expected data.labels = \"score:NAME\", found \"given\".",
        ),
        (
            &["method.name=smpo", "data.labels=vote:hps,flat"],
            "expected data.labels = \"score:NAME\", found \"vote:hps,flat\".",
        ),
        (
            &["method.name=smpo", "data.labels=score:hps", "method.scorer=flat"],
            "method.scorer = \"flat\" with data.labels = \"score:hps\": expected the scorer that ranked the pairs. Remove method.scorer.",
        ),
        (
            &["method.name=mappo", "method.scorer=hps", "method.score_range=[0.5, 0.5]"],
            "method.score_range = [0.5, 0.5]: expected the lowest score below the highest.",
        ),
        (
            &["method.name=mappo", "method.scorer=flat"],
            "method.score_range = \"auto\": expected scores of \"flat\" that differ, all are 1. Give [lowest, highest], or take another scorer.",
        ),
        (&["method.scorer=hps"], "unknown key method.scorer"),
    ] {
        let said = refused_together(&world, sets);
        assert!(said.contains(expected), "{sets:?}: {said}");
    }
}

/// `resolved.toml` of a run with these overrides.
fn resolved(world: &World, name: &str, sets: &[&str]) -> toml::Table {
    let run = world.trained(name, sets);
    std::fs::read_to_string(run.join("resolved.toml")).unwrap().parse().unwrap()
}

fn table(text: &str) -> toml::Table {
    text.parse().unwrap()
}

#[test]
fn resolved_toml_has_the_plug_ins_that_apply_and_only_their_keys() {
    let world = World::new(12);
    scored(&world, 12);
    let plain = resolved(&world, "plain", &["train.steps=1"]);
    assert_eq!(plain["timesteps"], table("law = \"uniform\"\nmin = 0\nmax = 999\nweighting = \"none\"").into());
    let reference = table("kind = \"frozen\"\nledger = \"auto\"\nplacement = \"device\"");
    assert_eq!(plain["reference"], reference.into());
    assert!(plain.get("safeguard").is_none());
    assert_eq!(plain["weights"], table("source = \"none\"\nas_published = false").into());

    let full = resolved(
        &world,
        "full",
        &[
            "train.steps=1",
            "timesteps.law=discounted",
            "timesteps.weighting=timestep_aware",
            "reference.kind=updated",
            "safeguard.name=sdpo",
            "weights.source=videodpo",
        ],
    );
    let discounted =
        "law = \"discounted\"\ngamma = 0.9\nn_bins = 50\nmin = 0\nmax = 999\nweighting = \"timestep_aware\"";
    assert_eq!(full["timesteps"], table(discounted).into());
    let updated = "kind = \"updated\"\nevery = 32\ndivergence_limit = 0.005\ndivergence_ema = 0.9\nledger = \"auto\"\nplacement = \"device\"";
    assert_eq!(full["reference"], table(updated).into());
    assert_eq!(full["safeguard"], table("name = \"sdpo\"\nmu = 0.9").into());
    assert_eq!(full["weights"], table("source = \"videodpo\"\nb = 1.0\nc = 0.72\nas_published = false").into());

    let sft = resolved(&world, "sft", &["train.steps=1", "method.name=sft"]);
    assert!(sft.get("reference").is_none() && sft.get("safeguard").is_none());
    let kto = resolved(&world, "kto", &["train.steps=1", "method.name=kto", "validate.fraction=0"]);
    assert!(kto.get("safeguard").is_none());
    assert_eq!(kto["data"]["format"].as_str(), Some("pairs"));
    let dspo = resolved(&world, "dspo", &["train.steps=1", "method.name=dspo_sq", "safeguard.name=sdpo"]);
    assert_eq!(dspo["safeguard"]["mu"].as_float(), Some(0.2));
}

#[test]
fn resolved_toml_has_scorer_range_alias_and_defaults_of_the_family() {
    let world = World::new(12);
    scored(&world, 12);
    let smpo = resolved(
        &world,
        "smpo",
        &["train.steps=1", "method.name=smpo", "data.labels=score:hps", "validate.fraction=0"],
    );
    let method = &smpo["method"];
    assert_eq!((method["scorer"].as_str(), method["name"].as_str()), (Some("hps"), Some("smpo")));
    let range: Vec<f64> = method["score_range"].as_array().unwrap().iter().filter_map(toml::Value::as_float).collect();
    assert_eq!(range, [0.2, 0.31]);
    let text = std::fs::read_to_string(world.path("run.toml"))
        .unwrap()
        .replace("name = \"dpo\"\nbeta = 500", "name = \"exo\"");
    std::fs::write(world.path("run.toml"), text).unwrap();
    let exo = resolved(&world, "exo", &["train.steps=1"]);
    assert_eq!((exo["method"]["name"].as_str(), exo["method"]["beta"].as_float()), (Some("dmpo"), Some(2000.0)));
    assert_eq!(exo["method"].as_table().unwrap().keys().take(2).collect::<Vec<_>>(), ["name", "beta"]);
}

#[test]
fn the_configuration_of_a_run_with_plug_ins_reproduces_it() {
    let world = World::new(12);
    scored(&world, 12);
    let sets = [
        "method.name=smpo",
        "data.labels=score:hps",
        "timesteps.law=list",
        "timesteps.values=[249, 499]",
        "safeguard.name=sdpo",
        "weights.source=column",
    ];
    let first = world.trained("run", &sets);
    std::fs::copy(first.join("resolved.toml"), world.path("run.toml")).unwrap();
    let second = world.trained("again", &[]);
    assert_eq!(files(&first.join("final")), files(&second.join("final")));
}

#[test]
fn the_number_of_steps_may_not_change_on_resume_where_a_ramp_reads_it() {
    let world = World::new(12);
    let resume = |sets: &[&str]| {
        let sets: Vec<&str> =
            sets.iter().flat_map(|s| ["--set", s]).chain(["--resume", "--set", "train.steps=4"]).collect();
        world.train(&sets)
    };
    let ramp = ["method.name=dpo_shift", "method.lam_end=1"];
    world.trained("run", &ramp);
    let said = world.refused(&mut resume(&ramp), 2);
    assert!(said.contains("train.steps: the run has 3, the config has 4"), "{said}");
    std::fs::remove_dir_all(world.run_dir()).unwrap();
    world.trained("run", &ramp[..1]);
    support::succeeds(&mut resume(&ramp[..1]));
    let laws = ["method.name=dpo_shift", "timesteps.max=500"];
    let said = world.refused(&mut resume(&laws), 2);
    assert!(said.contains("timesteps.max: the run has 999, the config has 500"), "{said}");
}
