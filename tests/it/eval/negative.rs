//! Models of an evaluation that are guided against another: the real binary, on the tiny model of golden/generate.

use crate::support::{self, diffpref, succeeds};
use assert_cmd::Command;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).display().to_string()
}

/// `eval` of models that all are the tiny one, on one name.
fn eval(dir: &Path, models: &[&str], arguments: &[&str]) -> Command {
    let prompts = dir.join("names.jsonl");
    std::fs::write(&prompts, "{\"prompt\": \"red apple\"}\n").unwrap();
    let mut command = diffpref();
    command.args(["eval", "--steps", "2", "--seeds", "1", "--device", "cpu", "--scorer", "compressibility"]);
    command.arg("--prompts").arg(prompts).arg("--out").arg(dir.join("eval"));
    for name in models {
        command.arg("--model").arg(format!("{name}={}", golden("generate/model")));
    }
    command.args(arguments);
    command
}

fn bad(model: &str) -> String {
    format!("{model}={}", golden("negative/sd-bad.safetensors"))
}

fn pixels(path: PathBuf) -> Vec<u8> {
    image::open(path).unwrap().to_rgb8().into_raw()
}

fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = eval(dir, &["base", "against"], arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    assert!(!dir.join("eval/pictures").exists(), "something was painted");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn pictures_against_a_negative_lora_are_those_of_generate_and_an_equal_side_changes_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let models = ["base", "against", "equal"];
    let lora = (bad("against"), bad("equal"));
    let sides = ["--negative-lora", &lora.0, "--negative-lora", &lora.1, "--negative-merge", "equal=1,0"];
    succeeds(eval(dir.path(), &models, &sides).args(["--guidance-scale", "3"]));

    let found = support::json(&dir.path().join("eval/eval.json"));
    let of = |index: usize| &found["models"][index];
    let picture =
        |index: usize| pixels(dir.path().join("eval").join(of(index)["pictures"].as_str().unwrap()).join("0000-0.png"));
    assert_ne!(of(0)["key"], of(1)["key"]);
    assert!(of(1)["source"].as_str().unwrap().contains(", guided against + "), "{}", of(1)["source"]);
    assert!(of(2)["source"].as_str().unwrap().ends_with("sd-bad.safetensors:1, merged 1,0"), "{}", of(2)["source"]);
    assert_eq!(picture(2), picture(0));
    assert_ne!(picture(1), picture(0));

    let out = dir.path().join("generated");
    let mut generate = diffpref();
    generate.args(["generate", "--scheduler", "ddim", "--steps", "2", "--guidance-scale", "3", "--device", "cpu"]);
    generate.args(["--prompt", "red apple", "--negative-lora", &golden("negative/sd-bad.safetensors"), "--model"]);
    succeeds(generate.arg(golden("generate/model")).arg("--out").arg(&out));
    assert_eq!(picture(1), pixels(out.join("000000-00.png")));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_painted() {
    let dir = tempfile::tempdir().unwrap();
    let (against, tuned) = (bad("against"), bad("tuned"));
    let unknown = refused(dir.path(), &["--negative-lora", &tuned]);
    assert!(
        unknown.contains("--negative-lora tuned=..: no --model has this name; there are base, against"),
        "{unknown}"
    );
    let nothing = refused(dir.path(), &["--negative-merge", "against=1,1"]);
    assert!(nothing.contains("--negative-merge 1,1: there is no negative side to merge"), "{nothing}");
    let merges = ["--negative-lora", &against, "--negative-merge", "against=1,1", "--negative-merge", "against=0,1"];
    let twice = refused(dir.path(), &merges);
    assert!(twice.contains("--negative-merge against=..: given 2 times; give it once"), "{twice}");
    let off = refused(dir.path(), &["--negative-lora", &against, "--guidance-scale", "1"]);
    assert!(off.contains("--guidance-scale 1 switches guidance off: the negative model of \"against\""), "{off}");
    let nameless = refused(dir.path(), &["--negative-lora", "bad.safetensors"]);
    assert!(nameless.contains("expected NAME=VALUE, where a --model has that name"), "{nameless}");
}

#[test]
fn a_run_has_no_negative_side() {
    let output = diffpref()
        .args(["eval", "--run", "runs/any", "--prompts", "names.jsonl", "--negative-lora", "after=bad.safetensors"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("--run") && text.contains("cannot be used with"), "{text}");
}
