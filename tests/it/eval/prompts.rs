//! Which pictures are painted, over which prompts means are taken, and how models and prompts are read.

use diffpref::denoising::NamedModel;
use diffpref::eval::{Cell, Prompt, PromptGroup, groups, plan, read_prompts};

fn prompt(text: &str, held_out: bool) -> Prompt {
    Prompt { text: text.into(), held_out }
}

#[test]
fn held_out_prompts_have_pictures_of_their_own_number_and_all_are_compared_on_the_seeds_they_share() {
    let prompts = [prompt("fox", false), prompt("crab", true)];
    let cells = (0..3).map(|seed| Cell { prompt: 0, seed }).chain((0..8).map(|seed| Cell { prompt: 1, seed }));
    assert_eq!(plan(&prompts, 8, 3), cells.collect::<Vec<_>>());
    let group = |name, prompts: &[usize], seeds| PromptGroup { name, prompts: prompts.into(), seeds };
    assert_eq!(groups(&prompts, 8, 3), [group("held_out", &[1], 8), group("all", &[0, 1], 3)]);
    assert_eq!(groups(&prompts, 2, 3)[1].seeds, 2);
    for held_out in [false, true] {
        let alike = [prompt("fox", held_out), prompt("crab", held_out)];
        assert_eq!(groups(&alike, 8, 3), [group("all", &[0, 1], 8)]);
        assert_eq!(plan(&alike, 8, 3).len(), 16);
    }
}

#[test]
fn the_demo_needs_640_pictures_per_model() {
    let prompts: Vec<Prompt> = (0..160).map(|i| prompt(&i.to_string(), i % 5 == 0)).collect();
    assert_eq!(plan(&prompts, 8, 3).len(), 640);
}

#[test]
fn a_model_is_a_name_a_path_and_loras() {
    let model: NamedModel = "tuned=models/sd15+a.safetensors:0.5+b.safetensors".parse().unwrap();
    assert_eq!((model.name.as_str(), model.model.path.to_str()), ("tuned", Some("models/sd15")));
    assert_eq!(model.loras.iter().map(|lora| lora.scale).collect::<Vec<_>>(), [0.5, 1.0]);
    assert_eq!(model.source(), "models/sd15 + a.safetensors:0.5 + b.safetensors:1");
    for wrong in ["models/sd15", "=models/sd15", "tuned=", "tuned=+a.safetensors"] {
        let error = wrong.parse::<NamedModel>().unwrap_err();
        assert!(error.contains(wrong) && error.contains("NAME=PATH"), "{error}");
    }
}

fn read(file: &str, text: &str, column: Option<&str>) -> anyhow::Result<Vec<Prompt>> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(file), text).unwrap();
    read_prompts(&dir.path().join(file), column).map(|(prompts, _)| prompts)
}

#[test]
fn a_repeated_prompt_counts_once_as_its_first_row_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("names.jsonl");
    std::fs::write(&path, "{\"prompt\": \"fox\", \"held_out\": true}\n{\"prompt\": \"crab\"}\n{\"prompt\": \"fox\"}\n")
        .unwrap();
    assert_eq!(read_prompts(&path, None).unwrap(), (vec![prompt("fox", true), prompt("crab", false)], 1));
}

#[test]
fn prompts_come_from_every_format_and_rows_of_json_may_be_held_out() {
    let rows = "{\"prompt\": \"fox\", \"held_out\": true, \"emoji\": \"x\"}\n\n{\"prompt\": \"crab\"}\n";
    assert_eq!(read("names.jsonl", rows, None).unwrap(), [prompt("fox", true), prompt("crab", false)]);
    let plain = [prompt("fox", false), prompt("crab", false)];
    assert_eq!(read("names.txt", "fox\ncrab\n", None).unwrap(), plain);
    assert_eq!(read("names.csv", "id,caption\n1,fox\n2,crab\n", None).unwrap(), plain);
    assert_eq!(read("names.tsv", "id\tsays\n1\tfox\n2\tcrab\n", Some("says")).unwrap(), plain);
}

#[test]
fn a_row_without_a_prompt_and_a_held_out_that_is_neither_are_named() {
    let said = |file: &str, text: &str| format!("{:#}", read(file, text, None).unwrap_err());
    let error = said("names.jsonl", "{\"prompt\": \"fox\"}\n{\"slug\": \"crab\"}\n");
    assert!(error.contains("names.jsonl row 2") && error.contains("prompt"), "{error}");
    let error = said("names.jsonl", "{\"prompt\": \"fox\", \"held_out\": \"yes\"}\n");
    assert!(error.contains("names.jsonl row 1: expected \"held_out\": true or false"), "{error}");
}
