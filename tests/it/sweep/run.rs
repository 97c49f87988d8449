//! Sweeps from file to answer.

use super::{FOUR, folder, stdout, sweep, trial, world, write};
use crate::support::{json, metrics, names, succeeds};

/// An evaluation of two prompts by a scorer without files.
fn eval(world: &crate::support::World) -> String {
    std::fs::write(world.path("prompts.txt"), "a red fox\na dog\n").unwrap();
    let prompts = world.path("prompts.txt").display().to_string();
    format!("[eval]\nprompts = \"{prompts}\"\nscorer = [\"compressibility\", \"background\"]\nseeds = 2\nsteps = 2\n")
}

fn titles(answer: &serde_json::Value) -> Vec<&str> {
    answer["rows"].as_array().unwrap().iter().map(|row| row["title"].as_str().unwrap()).collect()
}

#[test]
fn four_trials_are_ranked_and_the_winner_is_a_configuration() {
    let world = world(FOUR);
    let planned = stdout(&mut sweep(&world, &["--dry-run"]));
    assert!(planned.contains("   4  method.beta 800, seed 1\n"), "{planned}");
    assert!(planned.contains("4 trials: 4 trainings (0 shared)"), "{planned}");
    assert!(!folder(&world).exists(), "a dry run writes nothing");

    let text = stdout(&mut sweep(&world, &[]));
    let answer = json(&folder(&world).join("answer.json"));
    let rows = answer["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let figure = &row["figures"][0];
        let per_seed: Vec<f64> = figure["per_seed"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let logged: Vec<f64> = row["trials"]
            .as_array()
            .unwrap()
            .iter()
            .map(|number| {
                let lines = metrics(&trial(&world, number.as_u64().unwrap() as usize));
                lines.last().unwrap()["val_margin"].as_f64().unwrap()
            })
            .collect();
        assert_eq!(per_seed, logged);
        assert!((figure["mean"].as_f64().unwrap() - (logged[0] + logged[1]) / 2.0).abs() < 1e-15);
        assert!(figure["interval"]["lo"].as_f64().unwrap() <= figure["mean"].as_f64().unwrap());
    }
    assert!(text.contains("has the highest val_margin"), "{text}");
    assert_eq!(answer["effects"][0]["values"].as_array().unwrap().len(), 2);

    // The winner's configuration trains the same weights without the sweep.
    let out = world.path("again").display().to_string();
    let mut command = crate::support::diffpref();
    command.arg("train").arg(folder(&world).join("winner.toml")).args(["--set", &format!("train.out={out}")]);
    succeeds(&mut command);
    let winner = rows[0]["trials"][0].as_u64().unwrap() as usize;
    let weights = |dir: std::path::PathBuf| std::fs::read(dir.join("final/pytorch_lora_weights.safetensors")).unwrap();
    assert_eq!(weights(world.path("again")), weights(trial(&world, winner)));
}

#[test]
fn a_second_call_trains_nothing_and_new_values_join() {
    let world = world(FOUR);
    succeeds(&mut sweep(&world, &[]));
    let said = succeeds(&mut sweep(&world, &[]));
    assert!(!said.contains("train"), "{said}");
    write(&world, &FOUR.replace("[200, 800]", "[50, 200, 800]"));
    let said = succeeds(&mut sweep(&world, &[]));
    assert!(said.contains("trial 5 (method.beta 50, seed 0): train") && !said.contains("trial 1 ("), "{said}");
    let answer = json(&folder(&world).join("answer.json"));
    assert_eq!(answer["rows"].as_array().unwrap().len(), 3);
    write(&world, FOUR);
    succeeds(&mut sweep(&world, &["--answer"]));
    assert_eq!(json(&folder(&world).join("answer.json"))["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn trials_are_judged_by_pictures_and_the_start_model_is_painted_once() {
    let world = world("");
    let axes = "seeds = [0]\nrank_by = \"background.darkness\"\nsecond = \"compressibility.compressibility\"\nshow = [\"background.darkness.win_rate\"]\n[axes]\n\"optim.lr\" = { times = [0.1, 1] }\n";
    let text = format!("{axes}{}", eval(&world));
    write(&world, &text);
    let said = succeeds(&mut sweep(&world, &[]));
    assert_eq!(said.matches("start: 4 pictures made, 0 were there").count(), 1, "{said}");
    assert_eq!(said.matches("start: 0 pictures made, 4 were there").count(), 1, "{said}");
    let answer = json(&folder(&world).join("answer.json"));
    let figure = &answer["rows"][0]["figures"][0];
    assert!(figure["against_start"]["test"]["p"].as_f64().is_some());
    let html = std::fs::read_to_string(folder(&world).join("report.html")).unwrap();
    assert!(html.contains("data:image/png") && !html.contains("Pareto") && html.contains("Main effects"));
    assert!(answer["pareto_front"].as_array().is_some_and(|front| !front.is_empty()));
}

#[test]
fn conditions_methods_and_zipped_groups_make_the_points_they_should() {
    let world = world(
        "rank_by = \"val_margin\"\n[axes]\n\"method.name\" = [\"dpo\", \"sft\"]\n\
         \"method.beta\" = { values = [200, 800], when = { \"method.name\" = \"dpo\" } }\n\
         size = { zip = { \"lora.rank\" = [2, 4], \"optim.lr\" = [1e-2, 1e-3] }, names = [\"small\", \"large\"] }\n",
    );
    let planned = stdout(&mut sweep(&world, &["--dry-run"]));
    let trials: Vec<&str> = planned.lines().take_while(|line| !line.is_empty()).map(|line| line[6..].trim()).collect();
    assert_eq!(
        trials,
        [
            "method.name dpo, method.beta 200, size small, seed 0",
            "method.name dpo, method.beta 200, size large, seed 0",
            "method.name dpo, method.beta 800, size small, seed 0",
            "method.name dpo, method.beta 800, size large, seed 0",
            "method.name sft, size small, seed 0",
            "method.name sft, size large, seed 0",
        ]
    );
}

#[test]
fn claims_are_judged_by_the_difference_of_two_methods() {
    let world = world("");
    let methods = "seeds = [0, 1]\nrank_by = \"background.darkness\"\nshow = [\"val_margin\"]\n[[methods]]\nname = \"slow\"\nset = { \"optim.lr\" = 1e-9 }\n[[methods]]\nname = \"fast\"\nset = { \"optim.lr\" = 1e-2 }\n";
    let claims = "[[claims]]\nclaim = \"fast learns more\"\nmethod = \"fast\"\nwith = \"slow\"\nmetric = \"val_margin\"\n[[claims]]\nclaim = \"fast learns less\"\nmethod = \"fast\"\nwith = \"slow\"\nmetric = \"val_margin\"\nexpect = \"below\"\n[[claims]]\nclaim = \"nothing happens\"\nmethod = \"slow\"\n";
    write(&world, &format!("{methods}{claims}{}", eval(&world)));
    let text = stdout(&mut sweep(&world, &[]));
    let answer = json(&folder(&world).join("answer.json"));
    let margin = |row: &str, seed: usize| {
        let rows = answer["rows"].as_array().unwrap();
        let row = rows.iter().find(|r| r["title"] == row).unwrap();
        row["figures"][1]["per_seed"][seed].as_f64().unwrap()
    };
    let gains = [0, 1].map(|seed| margin("fast", seed) - margin("slow", seed));
    let claim = |i: usize| &answer["claims"][i];
    let difference = claim(0)["difference"].as_f64().unwrap();
    assert!((difference - (gains[0] + gains[1]) / 2.0).abs() < 1e-12, "{difference} {gains:?}");
    let (more, less) = if gains.iter().all(|gain| *gain > 0.0) {
        ("holds", "the opposite holds")
    } else if gains.iter().all(|gain| *gain < 0.0) {
        ("the opposite holds", "holds")
    } else {
        ("cannot be told", "cannot be told")
    };
    assert_eq!((claim(0)["verdict"].as_str(), claim(1)["verdict"].as_str()), (Some(more), Some(less)));
    // A rate of 1e-9 paints the start model's pictures: no prompt differs.
    assert_eq!(claim(2)["verdict"], "cannot be told");
    assert_eq!((&claim(2)["with"], &claim(2)["test"]["p_holm"]), (&"start model".into(), &1.0.into()));
    assert!(text.contains(&format!("{more}: fast learns more\n    val_margin fast minus slow: ")), "{text}");
    for file in ["answer.md", "report.html"] {
        assert!(std::fs::read_to_string(folder(&world).join(file)).unwrap().contains("fast learns less"), "{file}");
    }
    let wrong = claims.replace("val_margin", "val_marign");
    write(&world, &format!("{methods}{wrong}{}", eval(&world)));
    let said = world.refused(&mut sweep(&world, &["--answer"]), 2);
    assert!(said.contains("has the metric val_marign, did you mean val_margin?"), "{said}");
}

#[test]
fn ranges_and_drawn_points_are_the_same_every_time() {
    let world =
        world("rank_by = \"val_margin\"\n[axes]\n\"optim.lr\" = { from = 1e-4, to = 1e-2, log = true, points = 3 }\n");
    let grid = stdout(&mut sweep(&world, &["--dry-run"]));
    assert!(
        grid.contains("optim.lr 0.0001, seed 0")
            && grid.contains("optim.lr 0.001, seed 0")
            && grid.contains("optim.lr 0.01, seed 0"),
        "{grid}"
    );
    for strategy in ["random", "sobol"] {
        let drawn = format!(
            "strategy = \"{strategy}\"\ntrials = 8\nrank_by = \"val_margin\"\n[axes]\n\"optim.lr\" = {{ from = 1e-4, to = 1e-2, log = true }}\n\"lora.rank\" = {{ from = 2, to = 8 }}\n"
        );
        write(&world, &drawn);
        let (once, twice) = (stdout(&mut sweep(&world, &["--dry-run"])), stdout(&mut sweep(&world, &["--dry-run"])));
        let trials =
            |text: &str| text.lines().take_while(|line| !line.is_empty()).map(String::from).collect::<Vec<_>>();
        assert_eq!(trials(&once), trials(&twice));
        assert_eq!(trials(&once).len(), 8);
    }
}

#[test]
fn one_bad_trial_ends_neither_the_sweep_nor_the_answer_and_is_tried_again_on_request() {
    // A rank above the size of a layer is refused when the networks are made; a huge rate diverges.
    let world = world(
        "seeds = [0]\nrank_by = \"val_margin\"\n[axes]\n\"optim.lr\" = [1e-3, 1e30]\n\"data.resolution\" = [16, 17]\n",
    );
    let output = sweep(&world, &[]).assert().success().get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    let answer = json(&folder(&world).join("answer.json"));
    assert_eq!(titles(&answer)[0], "optim.lr 0.001, data.resolution 16", "{text}");
    let failed = answer["failed"].as_array().unwrap();
    assert!(failed.iter().any(|f| f["reason"].as_str().unwrap().contains("resolution")), "{answer:#}");
    assert!(text.contains("failed: trial 2 ("), "{text}");
    let said = succeeds(&mut sweep(&world, &[]));
    assert!(!said.contains(": train"), "{said}");
    let said = succeeds(&mut sweep(&world, &["--retry-failed"]));
    assert!(said.contains(&format!("{} failed parts are tried again", failed.len())), "{said}");
}

#[test]
fn the_best_rate_of_every_method_is_chosen_on_other_prompts_than_those_that_judge() {
    let world = world("");
    let judge = eval(&world);
    std::fs::write(world.path("choosing.txt"), "a cat\na house\n").unwrap();
    let choosing = judge.replace("prompts.txt", "choosing.txt").replace("[eval]", "[choose.eval]");
    let methods = "[[methods]]\nname = \"dpo\"\nseeds = [0, 1]\n[[methods]]\nname = \"sft\"\nset = { \"method.name\" = \"sft\" }\n\
                   [[methods]]\nname = \"npo\"\nside = \"negative\"\nset = { \"method.name\" = \"npo\" }\n[[methods]]\nname = \"both\"\npositive = \"dpo\"\nnegative = \"npo\"\n";
    let text = format!(
        "rank_by = \"background.darkness\"\n[axes]\n\"optim.lr\" = {{ times = [0.1, 1] }}\n[choose]\nrank_by = \"background.darkness\"\n{choosing}{judge}{methods}"
    );
    write(&world, &text);
    let said = succeeds(&mut sweep(&world, &[]));
    let answer = json(&folder(&world).join("answer.json"));
    let mut methods: Vec<&str> =
        answer["rows"].as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap()).collect();
    methods.sort_unstable();
    assert_eq!(methods, ["both", "dpo", "npo", "sft"], "{said}");
    for choice in answer["choices"].as_array().unwrap() {
        let best = choice["candidates"]
            .as_array()
            .unwrap()
            .iter()
            .max_by(|a, b| a["value"].as_f64().unwrap().total_cmp(&b["value"].as_f64().unwrap()));
        assert_eq!(best.unwrap()["title"], choice["chosen"]);
    }
    // Six trials choose; of dpo the chosen point alone has a second seed.
    assert_eq!(said.matches(": choose").count(), 6);
    assert_eq!(said.matches(": judge").count(), 5);
    assert_eq!(said.matches(": train").count(), 7);
}

#[test]
fn successive_halving_continues_the_best_trials_with_more_steps() {
    let world = world(
        "strategy = \"asha\"\ntrials = 4\nrank_by = \"val_margin\"\n[set]\n\"train.steps\" = 4\n[asha]\nmin_steps = 1\neta = 2\n[axes]\n\"optim.lr\" = { from = 1e-4, to = 1e-1, log = true }\n",
    );
    succeeds(&mut sweep(&world, &[]));
    let steps: Vec<u64> =
        (1..=4).map(|n| metrics(&trial(&world, n)).last().unwrap()["step"].as_u64().unwrap()).collect();
    let mut sorted = steps.clone();
    sorted.sort_unstable();
    assert!(sorted[0] == 1 && sorted[3] == 4, "{steps:?}");
    let answer = json(&folder(&world).join("answer.json"));
    assert_eq!(answer["rows"][0]["steps"], 4);
    // As a run that trained all steps at once.
    let winner = answer["rows"][0]["trials"][0].as_u64().unwrap() as usize;
    let mut command = crate::support::diffpref();
    command
        .arg("train")
        .arg(folder(&world).join("winner.toml"))
        .args(["--set", &format!("train.out={}", world.path("whole").display())]);
    succeeds(&mut command);
    let weights = |dir: std::path::PathBuf| std::fs::read(dir.join("final/pytorch_lora_weights.safetensors")).unwrap();
    assert_eq!(weights(world.path("whole")), weights(trial(&world, winner)));
}

#[test]
fn a_budget_that_is_used_up_starts_no_further_training() {
    let world = world(&format!("{FOUR}[budget]\nsteps = 6\n"));
    let text = stdout(&mut sweep(&world, &[]));
    assert!(text.contains("2 trials of the answer are not finished"), "{text}");
    assert_eq!(names(&folder(&world).join("trials")), ["0001", "0002"]);
}
