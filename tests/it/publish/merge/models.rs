//! Merges that make a model.

use super::{Tensors, assert_same, file, furthest, golden, merge, named, unet};
use crate::support::{self, diffpref};
use image::RgbImage;
use pipelines::weights::{TensorFile, WeightStore};
use serde_json::Value;
use std::path::Path;
use tch::Kind;

/// float64 sums rounded to float32 on both sides: they may part in the last bit, of values below 8.
const TOLERANCE: f64 = 5e-7;

#[test]
fn every_operation_computes_what_torch_does() {
    let dir = tempfile::tempdir().unwrap();
    let expected = file(&golden("merge/expected.safetensors"));
    let (base, a, b) = (named("merge/base"), named("merge/a"), named("merge/b"));
    let at = |path: &str, weight: &str| format!("{path}:{weight}");
    let lora = at(&named("merge/lora.safetensors"), "0.7");
    let cases: [(&str, Vec<String>); 5] = [
        ("soup", vec!["soup".into(), "--model".into(), at(&a, "0.3"), "--model".into(), at(&b, "0.7")]),
        (
            "task-vector",
            ["task-vector", "--base", &base, "--model", &at(&a, "0.8"), "--model", &at(&b, "-0.5")]
                .map(Into::into)
                .into(),
        ),
        (
            "npo",
            ["npo", "--base", &base, "--positive", &a, "--negative", &b, "--alpha", "0.5", "--beta", "0.8"]
                .map(Into::into)
                .into(),
        ),
        ("onto", ["task-vector", "--base", &base, "--onto", &b, "--model", &at(&a, "0.6")].map(Into::into).into()),
        ("lora", ["lora", "--base", &base, "--lora", &lora].map(Into::into).into()),
    ];
    for (operation, arguments) in cases {
        let out = dir.path().join(operation);
        merge(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &out).assert().success();
        let made = unet(&out);
        let prefix = format!("{operation}.");
        let wanted: Tensors =
            expected.iter().filter_map(|(n, t)| Some((n.strip_prefix(&prefix)?.into(), t.shallow_clone()))).collect();
        assert!(wanted.len() > 30);
        for (name, tensor) in wanted {
            assert!(furthest(&made[&name], &tensor) < TOLERANCE, "{operation} {name}");
        }
    }
}

#[test]
fn a_sum_with_all_weight_on_one_model_is_that_model_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (base, a, b) = (named("merge/base"), named("merge/a"), named("merge/b"));
    let check = |name: &str, arguments: &[&str], expected: &str| {
        let out = dir.path().join(name);
        merge(arguments, &out).assert().success();
        assert_same(&unet(&out), &unet(Path::new(expected)));
    };
    check("soup", &["soup", "--model", &a], &a);
    check("same", &["soup", "--model", &a, "--model", &a], &a);
    check("zero", &["npo", "--base", &base, "--positive", &a, "--negative", &b, "--alpha", "0", "--beta", "0"], &base);
    check("alpha", &["npo", "--base", &base, "--positive", &a, "--negative", &b, "--beta", "0"], &a);
    let (plus, minus) = (format!("{a}:1"), format!("{a}:-1"));
    check("both", &["task-vector", "--base", &base, "--model", &plus, "--model", &minus], &base);
    check("plus", &["task-vector", "--base", &base, "--model", &a], &a);
    // a - (a - base): the float32 weights' differences are exact in float64.
    check("back", &["task-vector", "--base", &base, "--onto", &a, "--model", &minus], &base);
    let (lora, back) = (named("merge/lora.safetensors"), format!("{}:-1", named("merge/lora.safetensors")));
    check("worn", &["lora", "--base", &base, "--lora", &lora, "--lora", &back], &base);
}

#[test]
fn equal_shares_are_taken_where_none_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (named("merge/a"), named("merge/b"));
    merge(&["soup", "--model", &a, "--model", &b], &dir.path().join("equal")).assert().success();
    let halves = [format!("{a}:0.5"), format!("{b}:0.5")];
    merge(&["soup", "--model", &halves[0], "--model", &halves[1]], &dir.path().join("given")).assert().success();
    assert_same(&unet(&dir.path().join("equal")), &unet(&dir.path().join("given")));
}

fn paint(model: &Path, out: &Path, more: &[&str]) -> RgbImage {
    let common = ["--scheduler", "ddim", "--steps", "5", "--seed", "5", "--device", "cpu", "--prompt", "a black cat"];
    let mut diffpref = diffpref();
    diffpref.arg("generate").args(common).arg("--model").arg(model).arg("--out").arg(out).args(more);
    diffpref.assert().success();
    image::open(out.join("000000-00.png")).unwrap().to_rgb8()
}

#[test]
fn a_lora_merged_into_a_model_paints_what_the_worn_one_does_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let (model, lora) = (golden("generate/model"), format!("{}:0.5", named("generate/lora.safetensors")));
    let worn = paint(&model, &dir.path().join("worn"), &["--lora", &lora]);
    assert!(support::furthest(&worn, &paint(&model, &dir.path().join("plain"), &[])) > 10);
    let base = model.display().to_string();
    for (out, format) in [("folder", "diffusers"), ("one.safetensors", "checkpoint"), ("unet", "unet")] {
        let path = dir.path().join(out);
        let arguments = ["lora", "--base", &base, "--lora", &lora, "--dtype", "float32"];
        // The default follows from the name; a UNet folder has to be asked for.
        let more: &[&str] = if format == "unet" { &["--format", "unet"] } else { &[] };
        merge(&[&arguments[..], more].concat(), &path).assert().success();
        let pictures = dir.path().join(format!("pictures-{format}"));
        let merged = match format {
            "unet" => paint(&model, &pictures, &["--unet", path.to_str().unwrap()]),
            _ => paint(&path, &pictures, &[]),
        };
        assert!(support::furthest(&worn, &merged) <= 1, "{format}: {}", support::furthest(&worn, &merged));
    }
}

#[test]
fn models_of_different_formats_are_merged_text_encoders_included() {
    let dir = tempfile::tempdir().unwrap();
    let (sdxl, doubled) = (golden("families/sdxl"), dir.path().join("doubled"));
    let base = sdxl.display().to_string();
    let zero = dir.path().join("zero");
    merge(&["task-vector", "--base", &base, "--model", &format!("{base}:0.25")], &zero).assert().success();
    let single = dir.path().join("single.safetensors");
    merge(&["soup", "--model", &base, "--dtype", "float32"], &single).assert().success();
    let single = single.display().to_string();
    merge(&["soup", "--model", &base, "--model", &single, "--dtype", "float32"], &doubled).assert().success();
    for part in ["unet", "text_encoder", "text_encoder_2"] {
        let stem = if part == "unet" { "diffusion_pytorch_model" } else { "model" };
        let read = |folder: &Path| WeightStore::open_component(&folder.join(part), stem).unwrap();
        let (before, after, same) = (read(&sdxl), read(&doubled), read(&zero));
        for name in after.names() {
            let short = if before.shape(name).is_some() { name } else { name.trim_start_matches("text_model.") };
            let original = before.tensor(short).unwrap();
            assert!(after.tensor(name).unwrap().equal(&original.to_kind(Kind::Float)), "{part} {name}");
            assert!(same.tensor(name).unwrap().equal(&original), "{part} {name}");
        }
    }
}

#[test]
fn a_unet_alone_leaves_the_text_encoders_of_a_whole_model_as_they_are_and_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (base, out) = (named("generate/model"), dir.path().join("out"));
    let model = format!("{}:-0.5", named("generate/model/unet"));
    let ran = merge(&["task-vector", "--base", &base, "--model", &base, "--model", &model], &out).assert().success();
    let said = String::from_utf8_lossy(&ran.get_output().stderr).into_owned();
    assert!(said.contains("text_encoder: 1 of the models are a UNet alone"), "{said}");
    assert_same(&unet(&out.join("unet")), &unet(&golden("generate/model/unet")));
}

#[test]
fn a_file_says_what_was_merged_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (base, a) = (named("merge/base"), format!("{}:0.25", named("merge/a")));
    merge(&["task-vector", "--base", &base, "--model", &a], &out).assert().success();
    let written = TensorFile::open(&out.join("diffusion_pytorch_model.safetensors")).unwrap();
    let record: Value = serde_json::from_str(&written.metadata()["diffpref.merge"]).unwrap();
    assert_eq!((&record["operation"], &record["arithmetic"]), (&"task-vector".into(), &"float64".into()));
    let input = &record["inputs"][1];
    assert_eq!((&input["role"], &input["weight"]), (&"model".into(), &0.25.into()));
    let file = "diffusion_pytorch_model.safetensors";
    let hash = diffpref::machine::hashes::of_file(&golden("merge/a").join(file)).unwrap();
    assert_eq!(input["files"][file], Value::from(hash));
    assert_eq!(written.metadata()["format"], "pt");
}

#[test]
fn weights_are_rounded_once_to_the_kind_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (named("merge/a"), named("merge/b"));
    let out = dir.path().join("out");
    merge(&["soup", "--model", &a, "--model", &b, "--dtype", "bfloat16"], &out).assert().success();
    let (left, right) = (unet(Path::new(&a)), unet(Path::new(&b)));
    for (name, tensor) in unet(&out) {
        let exact = (left[&name].to_kind(Kind::Double) + right[&name].to_kind(Kind::Double)) * 0.5;
        assert!(tensor.equal(&exact.to_kind(Kind::BFloat16)), "{name}");
    }
}

/// Runs a merge and returns the most memory that it held, in MiB.
#[allow(clippy::zombie_processes)] // wait4 waits for the child, which clippy cannot see
fn peak(arguments: &[&str], out: &Path) -> i64 {
    let program = assert_cmd::cargo::cargo_bin("diffpref");
    let child = std::process::Command::new(program)
        .arg("merge")
        .args(arguments)
        .arg("--out")
        .arg(out)
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .env("OMP_NUM_THREADS", "1")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut status = 0;
    // SAFETY: all of rusage is numbers, for which zeros are valid; the child is ours and nobody else waits for it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert!(libc::wait4(child.id() as i32, &mut status, 0, &mut usage) > 0);
        usage
    };
    assert_eq!(status, 0);
    usage.ru_maxrss / 1024
}

#[test]
fn a_merge_needs_the_memory_of_a_few_tensors_whatever_the_models_hold() {
    let dir = tempfile::tempdir().unwrap();
    let small = [named("merge/base"), named("merge/a")];
    let least = peak(&["task-vector", "--base", &small[0], "--model", &small[1]], &dir.path().join("small"));
    // the largest tensor, [640, 1280, 3, 3], is 56 MiB in float64.
    let config = std::fs::read_to_string(golden("merge/base/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["block_out_channels"] = serde_json::json!([320, 640]);
    config["norm_num_groups"] = 32.into();
    config["attention_head_dim"] = 8.into();
    let mut large = Vec::new();
    for (i, name) in ["base", "a"].into_iter().enumerate() {
        let path = dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("config.json"), config.to_string()).unwrap();
        let unet = pipelines::models::UNetConfig::read(&path).unwrap();
        let shapes = pipelines::models::UNet2DConditionModel::parameter_shapes(&unet);
        let entry = |(name, shape): &(String, Vec<i64>)| pipelines::weights::Entry {
            name: name.clone(),
            kind: Kind::Float,
            shape: shape.clone(),
        };
        let shape = |name: &str| shapes.iter().find(|(n, _)| n == name).unwrap().1.clone();
        let weights = path.join("diffusion_pytorch_model.safetensors");
        let entries = shapes.iter().map(entry).collect();
        pipelines::weights::write_streaming(&weights, entries, &[], &mut |name| {
            Ok(tch::Tensor::full(shape(name), i as f64, (Kind::Float, tch::Device::Cpu)))
        })
        .unwrap();
        assert!(std::fs::metadata(&weights).unwrap().len() > 150 << 20);
        large.push(path.display().to_string());
    }
    let most = peak(&["task-vector", "--base", &large[0], "--model", &large[1]], &dir.path().join("large"));
    println!("peak {most} MiB; {least} MiB for tiny models");
    // Two tensors as they are stored (28 MiB each) and three float64 copies of the largest; the files hold three times as much.
    assert!(most - least < 230, "{most} MiB, {least} MiB for tiny models");
}
