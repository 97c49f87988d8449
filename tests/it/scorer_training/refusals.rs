//! Bad input of `train-scorer`, refused with what was expected and what to do; and plans.

use super::Judged;
use crate::support::{Messages, golden, root, succeeds};
use serde_json::{Value, json};

fn remove(row: &mut Value, field: &str) {
    row.as_object_mut().unwrap().remove(field);
}

#[test]
fn configurations_that_do_not_fit_are_refused_with_the_key() {
    let world = Judged::new();
    let mut messages = Messages::default();
    let cases: [(&str, &[&str]); 15] = [
        ("one data set", &["method.name=more"]),
        ("further data of a method of one set", &["data.others=[\"pairs.jsonl\"]"]),
        ("method of a diffusion model", &["method.name=dpo"]),
        ("unknown head", &["method.name=pikscore"]),
        ("head that is not built", &["method.name=outside_option"]),
        ("key of another head", &["method.k=3"]),
        ("nothing to train", &["model.tune=head"]),
        ("blocks without a number", &["model.tune=blocks"]),
        ("more blocks than there are", &["model.tune=blocks", "model.image_blocks=3"]),
        ("blocks of whole towers", &["model.text_blocks=1"]),
        ("part of drawn towers", &["model.start=random", "model.tune=blocks", "model.text_blocks=1"]),
        ("two members", &["train.members=2"]),
        ("hard labels with ties", &["method.name=hpsv2", "data.ties=keep"]),
        ("new users of a head without users", &["model.new_users=true"]),
        ("lists for a head of pairs", &["method.name=ranklist"]),
    ];
    for (case, sets) in cases {
        let code = if case.starts_with("more blocks") { 1 } else { 2 };
        messages.add(case, &world.refused(&mut world.train_with(sets), code));
    }
    assert!(!world.path("run").exists() || !world.path("run/final").exists());
    insta::assert_snapshot!(messages);
}

#[test]
fn train_names_the_command_of_a_scorers_configuration() {
    let world = Judged::new();
    let mut command = crate::support::diffpref();
    let said = world.refused(command.arg("train").arg(world.path("scorer.toml")), 2);
    let expected =
        "DIR/scorer.toml:5: method.name = \"pickscore\" trains a scorer: run `diffpref train-scorer DIR/scorer.toml`.";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn data_without_what_a_head_reads_is_refused_with_the_rows() {
    let mut messages = Messages::default();
    let mut add = |case: &str, method: &str, change: &dyn Fn(usize, &mut Value)| {
        let world = Judged::new();
        world.config(method, "");
        world.rewrite(change);
        messages.add(case, &world.refused(&mut world.train(&[]), 1));
    };
    add("no labels", "dimensions", &|_, row| remove(row, "labels"));
    add("no strength", "disagreement_margin", &|_, row| remove(row, "strength"));
    add("strength of another form", "disagreement_margin", &|_, row| row["strength"] = json!({"mean": "high"}));
    add("no user in some rows", "pal", &|i, row| {
        if i % 5 == 1 {
            remove(row, "user");
        }
    });
    add("no user", "lore", &|_, row| remove(row, "user"));
    add("votes against the winner", "hpsv2", &|i, row| {
        if i == 3 {
            row["votes"] = json!([1, 4]);
        }
    });
    add("votes of nobody", "hpsv2", &|_, row| row["votes"] = json!([0, 0]));
    add("labels of another form", "dimensions", &|_, row| row["labels"] = json!({"bright": 3}));
    add("only ties", "hpsv2", &|_, row| row["label"] = "tie".into());
    add("a missing picture", "pickscore", &|i, row| {
        if i == 2 {
            row["winner"] = "gone.png".into();
        }
    });
    add("an empty prompt", "pickscore", &|_, row| row["prompt"] = " ".into());
    let world = Judged::new();
    std::fs::write(world.path("pairs.jsonl"), "").unwrap();
    messages.add("no pairs", &world.refused(&mut world.train(&[]), 1));
    let world = Judged::new();
    for i in 0..6 {
        std::fs::write(world.path(&format!("dark-0-{i}.png")), "no picture").unwrap();
        std::fs::write(world.path(&format!("dark-1-{i}.png")), "no picture").unwrap();
    }
    let said = world.refused(&mut world.train(&[]), 1);
    assert!(said.contains(".png: not an image") && said.contains("remove its rows"), "{said}");
    insta::assert_snapshot!(messages);
}

#[test]
fn votes_of_one_side_only_have_a_finite_loss() {
    let world = Judged::new();
    world.config("hpsv2", "labels = \"soft\"");
    world.rewrite(|_, row| row["votes"] = json!([5, 0]));
    succeeds(&mut world.train(&[]));
    assert!(crate::support::metrics(&world.path("run")).iter().all(|line| line["loss"].as_f64().unwrap().is_finite()));
}

#[test]
fn weights_of_another_model_and_a_head_without_its_scorer_are_named() {
    let world = Judged::new();
    let other = format!("model.path=\"{}\"", root().join("assets/testbed/model/unet").display());
    let said = world.refused(&mut world.train_with(&[&other]), 1);
    assert!(said.contains("model.path") && said.contains("model.safetensors"), "{said}");
    let mps = format!("model.path=\"{}\"", golden("scorers/mps").display());
    let said = world.refused(&mut world.train_with(&[&mps]), 1);
    assert!(said.contains("MPS"), "{said}");
    world.config("gpm", "");
    succeeds(&mut world.train(&[]));
    let scorer = |name: &str| {
        let mut command = crate::support::diffpref();
        command.arg("score").arg(world.path("dark-0-0.png").parent().unwrap()).args(["--device", "cpu"]);
        command.arg("--scorer").arg(format!("{name}={}", world.path("run/final").display()));
        command.arg("--out").arg(world.path("scored")).env("XDG_CACHE_HOME", world.path("cache"));
        std::fs::write(world.path("dark-0-0.txt"), "a dog").unwrap();
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = scorer("pickscore");
    assert!(said.contains("the head \"gpm\"") && said.contains("take trained="), "{said}");
}

#[test]
fn a_run_is_not_overwritten_or_resumed_by_another_configuration() {
    let world = Judged::new();
    succeeds(&mut world.train(&[]));
    let said = world.refused(&mut world.train(&[]), 1);
    assert!(said.contains("the folder holds another run"), "{said}");
    let said = world.refused(&mut world.train(&["--resume", "--set", "optim.lr=1e-5"]), 2);
    assert!(said.contains("optim.lr: the run has 0.003, the config has 0.00001"), "{said}");
    world.rewrite(|_, row| remove(row, "votes"));
    let said = world.refused(&mut world.train(&["--resume"]), 1);
    assert!(said.contains("what data.path names has changed"), "{said}");
    let nothing = format!("train.out=\"{}\"", world.path("nothing").display());
    let said = world.refused(&mut world.train(&["--resume", "--set", &nothing]), 1);
    assert!(said.contains("nothing to resume"), "{said}");
    succeeds(&mut world.train(&["--set", "train.overwrite=true"]));
}

#[test]
fn new_users_need_a_head_with_users_and_the_same_keys() {
    let world = Judged::new();
    world.config("lore", "");
    let said = world.refused(&mut world.train_with(&["model.new_users=true"]), 2);
    assert!(said.contains("was trained with method.name = \"pickscore\""), "{said}");
    succeeds(&mut world.train(&[]));
    let base = format!("model.path=\"{}\"", world.path("run/final").display());
    let out = format!("train.out=\"{}\"", world.path("more").display());
    let said = world.refused(&mut world.train_with(&["model.new_users=true", &base, &out, "method.bases=3"]), 2);
    assert!(said.contains("Take the same keys"), "{said}");
}

#[test]
fn published_recipes_resolve_when_their_folders_exist() {
    let world = Judged::new();
    let plan = |recipe: &str, sets: &[&str]| {
        let mut command = crate::support::diffpref();
        command.arg("train-scorer").arg(root().join("configs").join(recipe)).args(["--dry-run", "--json"]);
        let data = format!("data.path=\"{}\"", world.path("pairs.jsonl").display());
        command.args(crate::support::flags(&[&[data.as_str(), "model.device=cpu"], sets].concat()));
        let assert = command.assert().success();
        serde_json::from_slice::<Value>(&assert.get_output().stdout).unwrap()
    };
    let clip = format!("model.path=\"{}\"", golden("scorers/clip").display());
    let pickscore = plan("scorer-pickscore.toml", &[&clip]);
    assert_eq!((&pickscore["pairs_per_step"], &pickscore["steps"]), (&json!(128), &json!(4000)));
    let hps = format!("model.path=\"{}\"", golden("scorers/hpsv2").display());
    let hpsv2 = plan("scorer-hpsv2.toml", &[&hps, "model.image_blocks=1", "model.text_blocks=1"]);
    assert_eq!((&hpsv2["tune"], &hpsv2["dropped_ties"]), (&json!("blocks"), &json!(8)));
    assert!(hpsv2["trained_tower_parameters"].as_u64() < hpsv2["parameters"].as_u64());
}

#[test]
fn recipes_of_the_test_bed_resolve() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("scorer-testbed-") {
            let mut command = crate::support::diffpref();
            command.current_dir(root()).arg("train-scorer").arg(&path).arg("--dry-run").assert().success();
            seen += 1;
        }
    }
    assert!(seen >= 11, "{seen}");
}
