//! `diffpref runs`: what was trained, from the database and from the folders.

use crate::support::{Messages, World, diffpref, json, succeeds};
use assert_cmd::Command;

/// Two runs in `runs/`, with different beta.
fn world() -> World {
    let world = World::new(8);
    for (name, beta) in [("runs/a", "200"), ("runs/b", "800")] {
        world.trained(name, &[&format!("method.beta={beta}"), "validate.every=1"]);
    }
    world
}

fn runs(world: &World, arguments: &[&str]) -> Command {
    let mut command = diffpref();
    command.arg("runs").args(arguments).arg("--root").arg(world.path("runs"));
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

#[test]
fn trained_runs_are_listed_filtered_and_sorted() {
    let world = world();
    let text = stdout(&mut runs(&world, &["list", "--where", "method.beta > 500 and status = 'finished'"]));
    assert!(text.contains("\nb ") && !text.contains("\na "), "{text}");
    let csv =
        stdout(&mut runs(&world, &["list", "--sort", "-method.beta", "--columns", "path,method.beta,step", "--csv"]));
    assert_eq!(csv, "path,method.beta,step\nb,800.0,3\na,200.0,3\n");
    let all: serde_json::Value = serde_json::from_str(&stdout(&mut runs(&world, &["list", "--json"]))).unwrap();
    let run = &all[0];
    assert_eq!((run["path"].as_str(), run["status"].as_str()), (Some("a"), Some("finished")));
    assert!(run["metrics"]["val_margin"].is_number());
    for key in ["program_sha256", "model_sha256", "data_sha256", "diffpref", "libtorch"] {
        assert!(run["made"][key].is_string(), "{key}: {run:#}");
    }
    let shown = stdout(&mut runs(&world, &["show", "a"]));
    assert!(shown.contains("method.beta = 200.0\n"), "{shown}");
}

#[test]
fn compare_writes_a_page_with_what_differs() {
    let world = world();
    let page = world.path("compare.html");
    succeeds(&mut runs(&world, &["compare", "a", "b", "--out", &page.display().to_string()]));
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("<td>method.beta</td><td>200.0</td><td>800.0</td>"), "{html}");
    assert!(html.contains("<h3>loss</h3><svg") && !html.contains("lora.rank"));
}

#[test]
fn a_damaged_or_missing_database_is_rebuilt_from_the_folders() {
    let world = world();
    let before = stdout(&mut runs(&world, &["list"]));
    for text in ["no database at all, and long enough not to be an empty one", ""] {
        std::fs::write(world.path("runs/runs.sqlite"), text.repeat(200)).unwrap();
        let output = runs(&world, &["list"]).assert().success().get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            said.contains("is damaged") && said.contains("the 2 runs that the folders hold"),
            !text.is_empty(),
            "{said}"
        );
        if !text.is_empty() {
            assert_eq!(String::from_utf8(output.stdout).unwrap(), before);
        }
    }
    assert_eq!(stdout(&mut runs(&world, &["rebuild"])).split(' ').next(), Some("2"));
    assert_eq!(stdout(&mut runs(&world, &["list"])), before);
}

#[test]
fn a_database_that_cannot_be_written_never_ends_a_run() {
    let world = World::new(8);
    std::fs::create_dir_all(world.path("runs/runs.sqlite")).unwrap();
    let out = format!("train.out=\"{}\"", world.path("runs/a").display());
    let said = succeeds(&mut world.train_with(&[&out]));
    assert!(said.contains("warning: the runs database lacks this run"), "{said}");
    assert!(world.path("runs/a/final").is_dir());
}

#[test]
fn a_failed_and_a_stopped_run_are_known_with_their_status() {
    let world = World::new(8);
    let out = |name: &str| format!("train.out=\"{}\"", world.path(name).display());
    let (failed, stopped) = (out("runs/failed"), out("runs/stopped"));
    world.refused(&mut world.train_with(&[&failed, "optim.lr=1e30", "train.steps=30", "train.on_spike=stop"]), 1);
    world.signalled("TERM train 1", &["--set", &stopped]);
    let all: serde_json::Value = serde_json::from_str(&stdout(&mut runs(&world, &["list", "--json"]))).unwrap();
    let status = |i: usize| (all[i]["path"].as_str().unwrap(), all[i]["status"].as_str().unwrap());
    assert_eq!((status(0), status(1)), (("failed", "failed"), ("stopped", "stopped")), "{all:#}");
    assert!(!all[0]["reason"].as_str().unwrap().is_empty());
}

#[test]
fn rm_wants_a_confirmation_and_a_run() {
    let world = world();
    let mut messages = Messages::default();
    let mut refused = |arguments: &[&str]| {
        let output = runs(&world, arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap().replace(&world.path("").display().to_string(), "DIR/");
        messages.add(&format!("{arguments:?}: exit {:?}", output.status.code()), &said);
    };
    refused(&["rm", "a"]);
    refused(&["rm", "nothing", "--yes"]);
    refused(&["list", "--where", "method.bta > 3"]);
    refused(&["list", "--where", "method.name > 3"]);
    refused(&["list", "--where", "val_margin >"]);
    refused(&["list", "--sort", "method.bta"]);
    refused(&["list", "--columns", "nothing"]);
    insta::assert_snapshot!(messages);
    assert!(world.path("runs/a/final").is_dir());
    succeeds(&mut runs(&world, &["rm", "a", "--yes"]));
    assert!(!world.path("runs/a").exists() && world.path("runs/b").exists());
    assert!(!stdout(&mut runs(&world, &["list"])).contains("\na "));
    assert!(json(&world.path("runs/b/report.json")).is_object());
}
