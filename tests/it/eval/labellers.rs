//! Which judge labelled the data, and what an evaluation by the same judge says of it.

use crate::scorer_training::Judged;
use crate::support::{World, diffpref, json, root, sampling, sha256};
use diffpref::data::items::Labels;
use diffpref::scorers::labelled_by::{Taught, labellers};
use serde_json::Value;
use serde_json::json as object;
use std::path::{Path, PathBuf};

fn weights_of(judge: &str) -> String {
    sha256(&std::fs::read(root().join(judge).join("model.safetensors")).unwrap())
}

/// A data folder whose labelled-by.json says that `pairs.jsonl` follows the judge `label` and its scores the judges
/// `scores`.
fn labelled(dir: &Path, label: Option<&str>, scores: Value) {
    let text = object!({
        "judges": {
            "one": {"weights_sha256": weights_of("assets/judge-labels")},
            "two": {"weights_sha256": weights_of("assets/judge")},
        },
        "files": {"pairs.jsonl": {"label": label, "scores": scores}, "ties.jsonl": {"label": "two"}},
    });
    std::fs::write(dir.join("labelled-by.json"), text.to_string()).unwrap();
}

#[test]
fn those_labels_count_that_the_run_reads() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    std::fs::write(&pairs, "").unwrap();
    let judges = |labels: &str| -> Vec<String> {
        labellers(&pairs, &Labels::parse(labels).unwrap()).unwrap().into_iter().map(|labeller| labeller.judge).collect()
    };
    assert_eq!(judges("given"), [""; 0]); // no labelled-by.json: nothing is known
    labelled(dir.path(), None, object!({"style": "one", "content": "two"}));
    assert_eq!(judges("given"), [""; 0]); // people chose
    assert_eq!(judges("score:style"), ["one"]);
    assert_eq!(judges("vote:style,content,nearest"), ["one", "two"]);
    labelled(dir.path(), Some("one"), object!({"content": "two"}));
    assert_eq!(judges("given"), ["one"]);
    assert_eq!(judges("score:content"), ["two"]);
    let found = labellers(dir.path(), &Labels::Given).unwrap(); // the folder stands for the file in it
    assert_eq!(
        (found[0].weights_sha256.clone(), found[0].taught.clone()),
        (weights_of("assets/judge-labels"), Taught::Data(pairs))
    );
}

#[test]
fn a_file_that_does_not_say_who_labelled_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    std::fs::write(&pairs, "").unwrap();
    let refusal = |text: &str| {
        std::fs::write(dir.path().join("labelled-by.json"), text).unwrap();
        format!("{:#}", labellers(&pairs, &Labels::Given).unwrap_err())
    };
    let files = "\"files\": {\"pairs.jsonl\": {\"label\": \"me\"}}";
    let said = refusal("{\"judges\": {}}");
    assert!(
        said.contains("labelled-by.json does not describe the labels of the data: expected `judges` and `files`"),
        "{said}"
    );
    assert!(said.contains("missing field `files`"), "{said}");
    let said = refusal(&format!("{{\"judges\": {{\"you\": {{\"weights_sha256\": \"00\"}}}}, {files}}}"));
    assert!(said.contains("pairs.jsonl: the judge \"me\" is not among `judges`, which has [\"you\"]"), "{said}");
    let said = refusal(&format!("{{\"judges\": {{\"me\": {{\"weights_sha256\": \"00\"}}}}, {files}}}"));
    assert!(said.contains("the weights_sha256 of \"me\" is \"00\", expected 64 hexadecimal digits"), "{said}");
}

/// A finished run and what `diffpref eval` of it writes to stdout and stderr.
struct Evaluated {
    world: World,
    run: PathBuf,
}

impl Evaluated {
    fn new() -> Self {
        let world = World::new(8);
        std::fs::write(world.path("names.jsonl"), "{\"prompt\": \"tomato\"}\n").unwrap();
        let run = world.trained("run", &["train.steps=1"]);
        Self { world, run }
    }

    fn data(&self) -> PathBuf {
        self.world.path("data")
    }

    fn eval(&self, judge: &str, more: &[&str]) -> assert_cmd::Command {
        let mut command = diffpref();
        command.args(["eval", "--seeds", "1", "--steps", "2", "--run"]).arg(&self.run);
        command.arg("--prompts").arg(self.world.path("names.jsonl")).arg("--scorer");
        command.arg(format!("style={}", root().join(judge).display())).args(more);
        command
    }

    /// stdout and stderr of a successful evaluation, report.html and report.json.
    fn said(&self, judge: &str, more: &[&str]) -> (String, String, String, Value) {
        let assert = self.eval(judge, more).assert().success();
        let output = assert.get_output();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let html = std::fs::read_to_string(self.run.join("report.html")).unwrap();
        let json = json(&self.run.join("report.json"));
        (text(&output.stdout), text(&output.stderr), html, json)
    }
}

#[test]
fn an_evaluation_by_the_judge_that_labelled_warns_everywhere_and_by_another_nowhere() {
    let evaluated = Evaluated::new();
    labelled(&evaluated.data(), Some("one"), object!({"style": "two"}));
    let warning = "also labelled the training data";

    let (stdout, stderr, html, json) = evaluated.said("assets/judge-labels", &[]);
    assert!(stdout.contains(warning) && stdout.contains("pairs.jsonl follows \"one\""), "{stdout}");
    assert!(stderr.contains(warning), "{stderr}");
    assert!(html.contains("<b>Warning:</b>") && html.contains(warning));
    assert_eq!(json["evaluation"]["warnings"].as_array().unwrap().len(), 1, "{}", json["evaluation"]["warnings"]);
    assert!(json["evaluation"]["warnings"][0].as_str().unwrap().contains(warning));
    let (stdout, _, _, _) = evaluated.said("assets/judge-labels", &["--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["warnings"], json["evaluation"]["warnings"]);

    // The judge `two` gave a score that the run did not read.
    let (stdout, stderr, html, json) = evaluated.said("assets/judge", &[]);
    assert!(![&stdout, &stderr, &html].iter().any(|text| text.contains(warning)), "{stdout}{stderr}");
    assert_eq!(json["evaluation"]["warnings"], object!([]));
}

#[test]
fn a_judge_that_was_trained_on_the_data_of_the_model_is_named() {
    let judged = Judged::new();
    judged.train_with(&["train.steps=1"]).assert().success();
    let world = World::new(0);
    std::fs::write(world.path("names.jsonl"), "{\"prompt\": \"tomato\"}\n").unwrap();
    let data = format!("data.path={:?}", judged.path("pairs.jsonl"));
    let run = world.trained("run", &["train.steps=1", &data]);
    let warned = |world: &World| {
        let mut command = diffpref();
        command.args(["eval", "--seeds", "1", "--steps", "2", "--run"]).arg(&run).arg("--prompts");
        command.arg(world.path("names.jsonl")).arg("--scorer");
        command.arg(format!("trained={}", judged.path("run/final").display())).assert().success();
        json(&run.join("eval/eval.json"))["warnings"].clone()
    };
    let warnings = warned(&world);
    let text = warnings[0].as_str().unwrap();
    assert!(
        text.contains("the scorer \"trained\"") && text.contains("was trained on") && text.contains("pairs.jsonl"),
        "{text}"
    );
    // Other labels: other data.
    judged.rewrite(|_, row| row["votes"] = object!([2, 1]));
    assert_eq!(warned(&world), object!([]));
}

#[test]
fn data_that_is_gone_or_mislabelled_is_named() {
    let evaluated = Evaluated::new();
    std::fs::write(evaluated.data().join("labelled-by.json"), "{}").unwrap();
    let said = evaluated.world.refused(&mut evaluated.eval("assets/judge", &[]), 1);
    assert!(said.contains("DIR/data/labelled-by.json does not describe the labels of the data"), "{said}");
    assert!(!evaluated.run.join("eval").exists());

    std::fs::rename(evaluated.data(), evaluated.world.path("moved")).unwrap();
    let (_, stderr, _, json) = evaluated.said("assets/judge", &[]);
    assert!(stderr.contains("whether a scorer of this evaluation labelled it is unknown"), "{stderr}");
    assert_eq!(json["evaluation"]["warnings"], object!([]));
}

#[test]
fn a_judge_that_rated_the_samples_of_a_run_is_named_and_another_is_not() {
    let world = sampling::world(sampling::method("ddpo"));
    std::fs::write(world.path("names.jsonl"), "{\"prompt\": \"tomato\"}\n").unwrap();
    let scorers = format!("reward.scorers=[{{name=\"style\",path={:?}}}]", root().join("assets/judge-labels"));
    let run = world.trained("run", &[&scorers]);
    let evaluated = Evaluated { world, run };
    let warning = "also rated the samples that the model was trained on (reward.scorers, \"style\")";
    let (stdout, _, html, json) = evaluated.said("assets/judge-labels", &[]);
    assert!(stdout.contains(warning) && html.contains("<b>Warning:</b>"), "{stdout}");
    assert_eq!(json["evaluation"]["warnings"].as_array().unwrap().len(), 1, "{json}");
    let (stdout, stderr, _, json) = evaluated.said("assets/judge", &[]);
    assert!(!stdout.contains("rated the samples") && !stderr.contains("no longer at"), "{stdout}{stderr}");
    assert_eq!(json["evaluation"]["warnings"], object!([]));
}
