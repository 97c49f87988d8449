//! What is painted, how opinions become measures, and how models and names are read.

use diffpref::eval::{Name, NamedModel, Place, per_name, plan, read_names};
use diffpref::scorers::Opinion;

fn name(prompt: &str, held_out: bool) -> Name {
    Name { prompt: prompt.into(), slug: None, held_out }
}

fn opinion(flat: f64, name: &str) -> Opinion {
    Opinion { flat, name: name.into() }
}

#[test]
fn every_picture_is_made_once_for_both_measures() {
    let places = plan(&[name("fox", false), name("crab", true)], 8, 3);
    let expected = (0..3).map(|seed| Place { name: 0, seed }).chain((0..8).map(|seed| Place { name: 1, seed }));
    assert_eq!(places, expected.collect::<Vec<_>>());
}

#[test]
fn the_demo_needs_640_pictures_a_model() {
    let names: Vec<Name> = (0..160).map(|i| name(&i.to_string(), i % 5 == 0)).collect();
    assert_eq!(plan(&names, 8, 3).len(), 640);
}

#[test]
fn style_counts_on_held_out_names_and_content_on_all_with_fewer_seeds() {
    let names = [name("fox", false), name("crab", true)];
    let places = plan(&names, 4, 2);
    let opinions = [
        opinion(0.9, "fox"), // flat, but not held out
        opinion(0.1, "crab"),
        opinion(0.6, "crab"),
        opinion(0.2, "fox"),
        opinion(0.7, "fox"), // beyond the seeds of content
        opinion(0.8, "fox"),
    ];
    let values = per_name(&names, &places, &opinions, 4, 2);
    assert_eq!(values.flat, [0.75]);
    assert_eq!(values.content, [0.5, 0.5]);
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

fn read(file: &str, text: &str) -> anyhow::Result<Vec<Name>> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(file), text).unwrap();
    read_names(&dir.path().join(file))
}

#[test]
fn names_come_from_json_lines_or_from_plain_prompts() {
    let names = read(
        "names.jsonl",
        "{\"prompt\": \"fox\", \"slug\": \"fox\", \"held_out\": true, \"emoji\": \"x\"}\n\n{\"prompt\": \"crab\"}\n",
    );
    let fox = Name { prompt: "fox".into(), slug: Some("fox".into()), held_out: true };
    assert_eq!(names.unwrap(), [fox, name("crab", false)]);
    assert_eq!(read("names.txt", "fox\ncrab\n").unwrap(), [name("fox", true), name("crab", true)]);
}

#[test]
fn a_row_without_a_prompt_and_a_repeated_one_are_named() {
    let error = format!("{:#}", read("names.jsonl", "{\"prompt\": \"fox\"}\n{\"slug\": \"crab\"}\n").unwrap_err());
    assert!(error.contains("names.jsonl row 2") && error.contains("prompt"), "{error}");
    let error = format!("{:#}", read("names.txt", "fox\ncrab\nfox\n").unwrap_err());
    assert!(error.contains("prompt 3") && error.contains("fox"), "{error}");
}
