//! What a run leaves: the run folder, the layouts of final/, rotation, samples, TensorBoard, environment and data report.

use crate::support::{self, World, copy, files, json, metrics, names, succeeds, tensors};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn a_lora_run_leaves_both_namings_and_a_model_card() {
    let world = World::new(12);
    let run = world.trained("run", &["ema.decay=0.9"]);
    let both = |name: &str| [name.to_string(), name.replace(".safetensors", "_raw.safetensors")];
    let mut expected = vec!["README.md".to_string()];
    expected.extend(both("kohya_lora_weights.safetensors").into_iter().chain(both("pytorch_lora_weights.safetensors")));
    expected.sort();
    assert_eq!(names(&run.join("final")), expected);
    for (peft, kohya) in both("pytorch_lora_weights.safetensors").iter().zip(both("kohya_lora_weights.safetensors")) {
        assert_same_lora(&run.join("final").join(peft), &run.join("final").join(kohya));
    }
    let card = std::fs::read_to_string(run.join("final/README.md")).unwrap();
    for part in ["library_name: diffusers", "- dpo", "- lora", "3 steps of 4 pairs", "load_lora_weights", "ComfyUI"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    // What a user does with it.
    let lora = run.join("final/pytorch_lora_weights.safetensors");
    let mut generate = support::diffpref();
    generate.args(["generate", "--prompt", "cat", "--steps", "2", "--device", "cpu", "--scheduler", "ddim", "--model"]);
    succeeds(generate.arg(support::model()).arg("--lora").arg(&lora).arg("--out").arg(world.path("pictures")));
}

fn assert_same_lora(peft: &Path, kohya: &Path) {
    let (peft, kohya) = (tensors(peft), tensors(kohya));
    assert_eq!(kohya.len(), peft.len() / 2 * 3);
    for (name, values) in &peft {
        let (module, half) = name.strip_prefix("unet.").unwrap().split_once(".lora_").unwrap();
        let half = if half == "A.weight" { "lora_down" } else { "lora_up" };
        assert_eq!(&kohya[&format!("lora_unet_{}.{half}.weight", module.replace('.', "_"))], values, "{name}");
    }
}

#[test]
fn a_full_run_leaves_a_complete_diffusers_folder_that_trains_on() {
    let world = World::new(12);
    let run = world.trained("run", &["lora.rank=0", "optim.lr=1e-4", "ema.decay=0.9"]);
    let last = run.join("final");
    let expected =
        ["README.md", "model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "unet_raw", "vae"];
    assert_eq!(names(&last), expected);
    for part in ["scheduler", "text_encoder", "tokenizer", "vae"] {
        assert_eq!(files(&last.join(part)), files(&support::model().join(part)), "{part}");
    }
    assert_ne!(files(&last.join("unet")), files(&last.join("unet_raw")));
    assert_eq!(names(&last.join("unet")), ["config.json", "diffusion_pytorch_model.safetensors"]);
    let own = tensors(&support::model().join("unet/diffusion_pytorch_model.safetensors"));
    let trained = tensors(&last.join("unet/diffusion_pytorch_model.safetensors"));
    assert!(own.keys().eq(trained.keys()) && own != trained);
    world.trained("on", &[&format!("model.path={:?}", last.display().to_string()), "train.steps=1"]);
}

#[test]
fn another_vae_becomes_part_of_the_final_folder() {
    let world = World::new(12);
    let vae = world.path("vae");
    copy(&support::model().join("vae"), &vae);
    let config = std::fs::read_to_string(vae.join("config.json")).unwrap().replace("0.18215", "0.25");
    std::fs::write(vae.join("config.json"), config).unwrap();
    let set = format!("model.vae={:?}", vae.display().to_string());
    let run = world.trained("run", &[&set, "lora.rank=0", "optim.lr=1e-4", "train.steps=1"]);
    let (left, given) = (run.join("final/vae"), vae);
    assert_eq!(files(&left)["config.json"], files(&given)["config.json"]);
    let weights = |dir: &Path| tensors(&dir.join("diffusion_pytorch_model.safetensors"));
    assert_eq!(weights(&left), weights(&given));
}

#[test]
fn old_checkpoints_go_and_of_loras_the_weights_stay() {
    let world = World::new(12);
    let sets =
        ["train.steps=6", "train.checkpoint_every=1", "train.keep_last=2", "train.keep_every=3", "ema.decay=0.5"];
    let run = world.trained("lora", &sets);
    let whole = ["ema.safetensors", "optimizer.safetensors", "pytorch_lora_weights.safetensors", "state.json"];
    for step in 1..=6 {
        let found = names(&run.join(format!("checkpoint-{step:06}")));
        let expected = if [3, 5, 6].contains(&step) { &whole[..] } else { &whole[2..3] };
        assert_eq!(found, expected, "step {step}");
    }
    let run = world.trained("full", &[&sets[..], &["lora.rank=0", "optim.lr=1e-5"]].concat());
    let kept: Vec<String> = names(&run).into_iter().filter(|n| n.starts_with("checkpoint-")).collect();
    assert_eq!(kept, ["checkpoint-000003", "checkpoint-000005", "checkpoint-000006"]);
}

#[test]
fn a_checkpoint_names_the_hash_of_every_file_in_it() {
    let world = World::new(12);
    let checkpoint = world.trained("run", &["lora.rank=0", "optim.lr=1e-5"]).join("checkpoint-000003");
    let mut found = files(&checkpoint);
    found.remove("state.json").unwrap();
    assert!(found.contains_key("unet/diffusion_pytorch_model.safetensors"));
    assert_eq!(json(&checkpoint.join("state.json"))["files"], serde_json::to_value(found).unwrap());
}

#[test]
fn samples_are_painted_before_training_and_every_so_often() {
    let world = World::new(12);
    let sets = ["sample.every=2", "sample.steps=2", "sample.seeds=[3, 7]", "sample.prompts=[\"a cat\", \"a dog\"]"];
    let run = world.trained("run", &sets);
    assert_eq!(names(&run.join("samples")), ["prompts.json", "step-000000", "step-000002"]);
    let grid = ["00-3.png", "00-7.png", "01-3.png", "01-7.png"];
    assert_eq!(names(&run.join("samples/step-000000")), grid);
    let picture = image::open(run.join("samples/step-000000/01-7.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (16, 16));
    // Same prompts and seeds before and after: what differs is what was learnt.
    assert_ne!(files(&run.join("samples/step-000000")), files(&run.join("samples/step-000002")));
    let again = world.trained("again", &sets);
    assert_eq!(files(&again.join("samples")), files(&run.join("samples")));
    let text = "a bird\n\n  a fish \n";
    std::fs::write(world.path("prompts.txt"), text).unwrap();
    let file = format!("sample.prompts={:?}", world.path("prompts.txt").display().to_string());
    let run = world.trained("file", &["sample.every=3", "sample.steps=2", &file]);
    assert_eq!(json(&run.join("samples/prompts.json"))["prompts"], serde_json::json!(["a bird", "a fish"]));
    assert!(names(&world.trained("off", &["sample.every=1", "sample.prompts=[]"])).iter().all(|n| n != "samples"));
}

#[test]
fn tensorboard_has_the_scalars_and_a_resumed_run_opens_a_new_file() {
    let world = World::new(12);
    let sets = ["log.tensorboard=true", "train.checkpoint_every=2", "sample.every=2", "sample.steps=1"];
    let run = world.trained("run", &[&sets[..], &["train.steps=2"]].concat());
    let events = |run: &Path| -> Vec<String> {
        names(run).into_iter().filter(|n| n.starts_with("events.out.tfevents.")).collect()
    };
    assert_eq!(events(&run).len(), 1);
    let bytes = std::fs::read(run.join(&events(&run)[0])).unwrap();
    for tag in ["loss", "margin", "grad_norm", "lr", "samples"] {
        assert!(bytes.windows(tag.len()).any(|w| w == tag.as_bytes()), "{tag}");
    }
    let resume: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).chain(["--resume"]).collect();
    succeeds(&mut world.train(&resume));
    assert_eq!(events(&run).len(), 2);
    assert!(events(&world.trained("off", &[])).is_empty());
}

#[test]
fn environment_json_has_the_hashes_of_program_model_and_data() {
    let world = World::new(12);
    let first = json(&world.trained("first", &[]).join("environment.json"));
    let program = support::sha256(&std::fs::read(assert_cmd::cargo::cargo_bin("diffpref")).unwrap());
    assert_eq!(first["program_sha256"], program);
    let model = first["contents"]["model.path"].as_object().unwrap();
    for file in [
        "unet/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ] {
        let expected = support::sha256(&std::fs::read(support::model().join(file)).unwrap());
        assert_eq!(model[file], expected, "{file}");
    }
    assert_eq!((&first["device"], &first["dtype"], &first["threads"]), (&"cpu".into(), &"float32".into(), &1.into()));
    assert!(first["libtorch"].as_str().unwrap().starts_with("2."));

    // The data's hash: by hand, from index and images; and another one when an image is another.
    let mut hashes: Vec<String> = Vec::new();
    for name in names(&world.path("data")).iter().filter(|n| n.ends_with(".png")) {
        hashes.push(support::sha256(&std::fs::read(world.path("data").join(name)).unwrap()));
    }
    hashes.sort();
    hashes.dedup();
    let everything = ["train.steps=6", "validate.fraction=0"];
    let all = json(&world.trained("all", &everything).join("environment.json"));
    let index = support::sha256(&std::fs::read(world.pairs()).unwrap());
    let text = format!("index:{index}\n{}\n", hashes.join("\n"));
    assert_eq!(all["data"]["sha256"], support::sha256(text.as_bytes()));
    std::fs::copy(world.path("data/w2.png"), world.path("data/l2.png")).unwrap();
    let other = json(&world.trained("other", &everything).join("environment.json"));
    assert_ne!(other["data"]["sha256"], all["data"]["sha256"]);
}

#[test]
fn the_data_report_says_what_was_read_and_dropped() {
    let world = World::new(12);
    let tie = "{\"id\": \"t\", \"prompt\": \"x\", \"winner\": \"w0.png\", \"loser\": \"l0.png\", \"label\": \"tie\", \"source\": 1}\n";
    let rows = std::fs::read_to_string(world.pairs()).unwrap();
    std::fs::write(world.pairs(), rows + tie).unwrap();
    let report = json(&world.trained("run", &["validate.fraction=0"]).join("data-report.json"));
    assert_eq!((&report["rows"], &report["train"], &report["validation"]), (&13.into(), &12.into(), &0.into()));
    assert_eq!(
        (&report["dropped_ties"], &report["ignored_fields"]),
        (&serde_json::json!(["t"]), &serde_json::json!(["source"]))
    );
    assert_eq!((&report["items_bad"], &report["bad_images"]), (&0.into(), &serde_json::json!([])));
}

#[test]
fn every_documented_metric_is_there_and_every_line_is_one_step() {
    let world = World::new(24);
    let run = world.trained("run", &["validate.every=3"]);
    let lines = metrics(&run);
    assert_eq!(lines.iter().map(|l| l["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    let plain = "step epoch lr loss implicit_acc margin reward_w reward_l model_mse_w model_mse_l ref_mse_w ref_mse_l gap_w \
                 gap_l gradient_factor negative_margin margin_by_t beta grad_norm pairs_per_s s_per_step data_wait_s peak_mem_gib";
    let validated = "val_loss val_implicit_acc val_margin val_margin_lo val_margin_hi val_gap_w val_gap_l \
                     val_gradient_factor";
    let keys = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let listed = |names: &[&str]| names.iter().flat_map(|n| n.split_whitespace()).map(String::from).collect();
    assert_eq!(keys(&lines[0]), listed(&[plain]));
    assert_eq!(keys(&lines[2]), listed(&[plain, validated]));
    let n = json(&run.join("data-report.json"))["train"].as_f64().unwrap();
    assert!((lines[2]["epoch"].as_f64().unwrap() - 12.0 / n).abs() < 1e-12);
    let report = json(&run.join("report.json"));
    assert_eq!((&report["step"], &report["steps"]), (&3.into(), &3.into()));
    assert!(std::fs::read_to_string(run.join("report.html")).unwrap().contains("<html"));
}

#[test]
fn a_second_run_reads_the_cache_and_a_moved_picture_is_the_same_picture() {
    let world = World::new(12);
    world.trained("first", &[]);
    std::fs::rename(world.path("data"), world.path("moved")).unwrap();
    let data = format!("data.path={:?}", world.path("moved/pairs.jsonl").display().to_string());
    let said = succeeds(&mut world.train_with(&[&data]));
    assert!(!said.contains("encod"), "{said}");
    let other = [data.as_str(), "data.resolution=32", "train.overwrite=true"];
    let said = succeeds(&mut world.train_with(&other));
    assert!(said.contains("encoding"), "another resolution needs records of its own: {said}");
}
