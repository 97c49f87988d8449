//! `diffpref train` from a single file, and from a LoRA that other programs made.

use crate::support::root;
use assert_cmd::Command;
use pipelines::families::ModelFolder;
use pipelines::lora::{Lora, Network};
use pipelines::models::ClipTextModel;
use pipelines::weights::{WeightStore, write_safetensors};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn model() -> PathBuf {
    root().join("tests/golden/families/sdxl")
}

fn diffpref(home: &Path) -> Command {
    let mut command = Command::cargo_bin("diffpref").unwrap();
    command.current_dir(root()).env("HOME", home).env("OMP_NUM_THREADS", "1");
    command
}

/// Trains the tiny SDXL into `home/NAME`, with a cache of its own; returns the metric lines.
fn train(home: &Path, name: &str, sets: &[String]) -> Vec<Value> {
    let mut command = diffpref(home);
    command.arg("train").arg(root().join("tests/golden/families_train/base.toml"));
    command.arg("--set").arg(format!("train.out={}", home.join(name).display()));
    command.arg("--set").arg(format!("data.cache_dir={}", home.join(format!("cache-{name}")).display()));
    for set in sets {
        command.args(["--set", set]);
    }
    command.assert().success();
    let text = std::fs::read_to_string(home.join(name).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The metrics without what the clock says.
fn figures(mut lines: Vec<Value>) -> Vec<Value> {
    for line in lines.iter_mut().filter_map(Value::as_object_mut) {
        line.retain(|key, _| !key.ends_with("_s") && !key.ends_with("_step") && key != "peak_mem_gib");
    }
    lines
}

fn checkpoint(home: &Path) -> PathBuf {
    let file = home.join("model.safetensors");
    let mut export = diffpref(home);
    export
        .args(["export", "--format", "checkpoint", "--model"])
        .arg(model())
        .arg("--out")
        .arg(&file)
        .assert()
        .success();
    file
}

#[test]
fn training_from_a_single_file_is_training_from_the_folder() {
    let home = tempfile::tempdir().unwrap();
    let file = checkpoint(home.path());
    let from = |path: &Path| format!("model.path={}", path.display());
    let folder = figures(train(home.path(), "folder", &[from(&model())]));
    let single = figures(train(home.path(), "single", &[from(&file)]));
    assert!(folder.len() == 3 && folder == single, "{folder:?}\n{single:?}");
    let weights =
        |run: &str| std::fs::read(home.path().join(run).join("final/pytorch_lora_weights.safetensors")).unwrap();
    assert!(weights("folder") == weights("single"));
}

#[test]
fn a_full_run_from_a_single_file_ends_with_a_whole_folder() {
    let home = tempfile::tempdir().unwrap();
    let file = checkpoint(home.path());
    let sets = [
        "lora.rank=0".into(),
        "optim.lr=1e-4".into(),
        "train.steps=1".into(),
        format!("model.path={}", file.display()),
    ];
    train(home.path(), "full", &sets);
    let last = home.path().join("full/final");
    let (start, end) = (ModelFolder::open(&model()).unwrap(), ModelFolder::open(&last).unwrap());
    assert_eq!(start.family(), end.family());
    for (part, stem) in [("vae", "diffusion_pytorch_model"), ("text_encoder", "model"), ("text_encoder_2", "model")] {
        let open = |dir: &Path| WeightStore::open_component(&dir.join(part), stem).unwrap();
        let (before, after) = (open(&model()), open(&last));
        assert!(after.names().count() > 10, "{part}");
        for name in after.names() {
            let short = name.trim_start_matches("text_model.");
            let old = before.tensor(name).or_else(|_| before.tensor(short)).unwrap();
            assert!(after.tensor(name).unwrap().equal(&old), "{part} {name}");
        }
    }
    for file in ["tokenizer_2/tokenizer_config.json", "scheduler/scheduler_config.json", "model_index.json"] {
        assert!(last.join(file).is_file(), "{file}");
    }
}

/// A style LoRA as kohya makes them: UNet with convolutions of their own rank, and both text encoders.
fn style(file: &Path) -> Lora {
    let folder = ModelFolder::open(&model()).unwrap();
    let targets = folder.lora_targets();
    let mut tensors = Vec::new();
    let mut seed = 0.0;
    let mut random = |shape: &[i64]| {
        seed += 0.1;
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Float, Device::Cpu)) * (0.3 + seed)).sin().reshape(shape) * 0.05
    };
    let unet = folder.network().layer_shapes();
    let attention = unet.iter().filter(|(path, _)| path.ends_with("to_q") || path.ends_with("conv2"));
    let text = ClipTextModel::layer_shapes(&folder.text()[0]);
    let layers = attention
        .map(|(p, s)| (format!("unet.{p}"), s))
        .chain(text.iter().map(|(p, s)| (format!("text_encoder.{p}"), s)));
    for (path, shape) in layers {
        let rank = if shape.len() == 4 { 2 } else { 4 };
        let (mut a, mut b) = (shape.clone(), vec![shape[0], rank]);
        a[0] = rank;
        b.extend(&vec![1; shape.len() - 2]);
        tensors.push((format!("{path}.lora_A.weight"), random(&a)));
        tensors.push((format!("{path}.lora_B.weight"), random(&b)));
    }
    let peft = file.with_extension("peft.safetensors");
    write_safetensors(&peft, &tensors, &[]).unwrap();
    let lora = Lora::read(&peft, &targets).unwrap().scaled(0.5);
    lora.write_kohya(file, Kind::Float, &targets, folder.family().lora_header()).unwrap();
    lora
}

#[test]
fn a_style_lora_is_refined_with_its_text_part_worn_and_passed_on() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("style.safetensors");
    let start = style(&file);
    let init = format!("lora.init={}", file.display());
    let lines = train(home.path(), "refined", &[init.clone(), "validate.every=1".into()]);
    assert_eq!(lines.len(), 3);
    // At step 1 policy and reference are the same model with the LoRA.
    assert_eq!(lines[0]["margin"].as_f64(), Some(0.0));
    let targets = ModelFolder::open(&model()).unwrap().lora_targets();
    for name in ["pytorch_lora_weights.safetensors", "kohya_lora_weights.safetensors"] {
        let last = Lora::read(&home.path().join("refined/final").join(name), &targets).unwrap();
        let text = |lora: &Lora| {
            lora.network(Network::TextEncoder)
                .unwrap()
                .modules
                .iter()
                .map(|(p, m)| (p.clone(), m.a.copy(), m.b.copy(), m.scale))
                .collect::<Vec<_>>()
        };
        for ((p, a, b, s), (q, c, d, t)) in text(&start).into_iter().zip(text(&last)) {
            assert!(p == q && a.equal(&c) && b.equal(&d) && (s - t).abs() < 1e-6, "{name} {p}");
        }
        let (before, after) = (start.network(Network::Unet).unwrap(), last.network(Network::Unet).unwrap());
        assert_eq!(before.modules.len(), after.modules.len());
        for (path, module) in &before.modules {
            assert!(!module.b.equal(&after.modules[path].b), "{path} was not trained");
            assert_eq!(module.rank(), after.modules[path].rank());
        }
    }
    // The text part is worn while prompts are encoded: without it the network sees other embeddings.
    let mut unet_only = Lora::read(&file, &targets).unwrap();
    let unet_only = Lora::of_unet(unet_only.take(Network::Unet));
    unet_only.write_peft(&home.path().join("unet.safetensors"), Kind::Float).unwrap();
    let bare = train(home.path(), "bare", &[format!("lora.init={}", home.path().join("unet.safetensors").display())]);
    let error = |lines: &[Value]| lines[0]["model_mse_w"].as_f64().unwrap();
    assert!((error(&lines) - error(&bare)).abs() > 1e-4 * error(&bare), "{} {}", error(&lines), error(&bare));
}

#[test]
fn a_lora_that_is_no_start_for_training_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("style.safetensors");
    let mut lora = style(&file);
    let refused = |sets: &[String]| {
        let mut command = diffpref(home.path());
        command.arg("train").arg(root().join("tests/golden/families_train/base.toml"));
        command.arg("--set").arg(format!("train.out={}", home.path().join("run").display()));
        command.arg("--set").arg(format!("data.cache_dir={}", home.path().join("cache").display()));
        for set in sets {
            command.args(["--set", set]);
        }
        let assert = command.assert().failure();
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    };
    let init = |file: &Path| format!("lora.init={}", file.display());
    let message = refused(&[init(&file), "lora.rank=8".into()]);
    assert!(message.contains("has rank 4, lora.rank is 8") && message.contains("Set lora.rank = 4"), "{message}");
    lora.take(Network::Unet);
    let text_only = home.path().join("text.safetensors");
    lora.write_peft(&text_only, Kind::Float).unwrap();
    assert!(refused(&[init(&text_only)]).contains("no part for the UNet"));
    assert!(refused(&["model.path=no/such/folder/at/all".into()]).contains("no such file or folder"));
}
