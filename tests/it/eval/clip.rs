//! Scorers on a CLIP in an evaluation by the real binary, on the tiny models of the golden files.

use crate::support::{diffpref, root};
use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;

/// `eval` of the tiny model against itself on `prompt` by `scorer`.
fn eval(dir: &Path, prompt: &str, scorer: &str) -> Command {
    let prompts = dir.join("names.jsonl");
    std::fs::write(&prompts, format!("{}\n", serde_json::json!({"prompt": prompt}))).unwrap();
    let model = root().join("tests/golden/generate/model");
    let mut command = diffpref();
    command.args(["eval", "--steps", "2", "--seeds", "1", "--device", "cpu", "--scorer", scorer]);
    command.arg("--prompts").arg(prompts).arg("--out").arg(dir.join("eval"));
    for name in ["one", "two"] {
        command.arg("--model").arg(format!("{name}={}", model.display()));
    }
    command
}

/// NAME=FOLDER of a golden file.
fn golden(name: &str) -> String {
    format!("{name}={}", root().join("tests/golden/scorers").join(name).display())
}

#[test]
fn an_evaluation_by_mps_has_its_four_measures_and_says_which_prompts_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let output = eval(dir.path(), &"red apple ".repeat(40), &golden("mps")).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    let note = "note: 1 prompts are longer than the text encoder of the scorer \"mps\" reads, and are cut for it";
    assert_eq!(said.matches(note).count(), 1, "{said}");
    let rows = std::fs::read_to_string(dir.path().join("eval/scores.jsonl")).unwrap();
    for row in rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()) {
        let numbers = row["scores"]["mps"].as_object().unwrap();
        let names: Vec<&str> = numbers.keys().map(String::as_str).collect();
        assert_eq!(names, ["overall", "aesthetics", "semantic_alignment", "detail_quality"]);
    }
}

#[test]
fn a_folder_without_a_clip_is_refused_before_anything_is_painted() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("clip");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("pytorch_model.bin"), "").unwrap();
    let output = eval(dir.path(), "red apple", &format!("pickscore={}", folder.display())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !dir.path().join("eval/pictures").exists(), "{said}");
    let expected = "has no model.safetensors: pytorch_model.bin is a pickle, which can run code and is never loaded: convert \
                    it as in docs/scorers.md";
    assert!(said.contains("cannot open the scorer \"pickscore\"") && said.contains(expected), "{said}");
}
