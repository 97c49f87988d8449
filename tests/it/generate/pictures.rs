//! `diffpref generate`: the real binary against pictures of Python diffusers (golden/make_generate.py).

use crate::support::{self, diffpref, furthest, rgb};
use assert_cmd::Command;
use image::RgbImage;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// No channel of any pixel may be further off: float32 sums in another order, rounded to bytes.
const LEVELS: i32 = 2;

pub(super) fn golden() -> PathBuf {
    support::golden("generate")
}

pub(super) fn generate(arguments: &[&str]) -> Command {
    let mut command = diffpref();
    // One thread: the networks are so small that two spend their time waiting for each other.
    command.arg("generate").args(arguments);
    command
}

/// The tiny model and its prompt into `out`; 10 steps from seed 5 on the CPU unless `arguments` say otherwise.
pub(super) fn paint(out: &Path, arguments: &[&str]) -> Command {
    let mut command = generate(&["--prompt", "a black cat in the forest", "--model"]);
    command.arg(golden().join("model")).arg("--out").arg(out).args(arguments);
    for default in [["--steps", "10"], ["--seed", "5"], ["--device", "cpu"]] {
        if !arguments.contains(&default[0]) {
            command.args(default);
        }
    }
    command
}

pub(super) fn index(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("images.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// stderr of a failing call, with its exit code and with the temporary folder as DIR.
pub(super) fn refused(command: &mut Command, code: i32, dir: &Path) -> String {
    let assert = command.assert().failure().code(code);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).replace(&dir.display().to_string(), "DIR");
    assert!(!text.contains("panicked") && !text.contains("Exception raised"), "{text}");
    text
}

fn assert_equals_diffusers(case: &str, arguments: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    paint(dir.path(), &[arguments, &["--num-images", "2", "--batch", "2"]].concat()).assert().success();
    for (image, seed) in [(0, 5), (1, 6)] {
        let ours = rgb(&dir.path().join(format!("000000-{image:02}.png")));
        let theirs = rgb(&golden().join(format!("{case}-{seed}.png")));
        let levels = furthest(&ours, &theirs);
        eprintln!("{case}, seed {seed}: {levels} levels");
        assert!(levels <= LEVELS, "{case}, seed {seed}: {levels} levels");
    }
}

#[test]
fn a_guided_picture_is_the_one_of_diffusers() {
    assert_equals_diffusers("plain", &[]);
}

#[test]
fn a_picture_with_noise_at_every_step_is_the_one_of_diffusers() {
    assert_equals_diffusers("eta", &["--eta", "1"]);
}

#[test]
fn a_picture_without_guidance_is_the_one_of_diffusers() {
    assert_equals_diffusers("unguided", &["--guidance-scale", "1"]);
}

#[test]
fn a_picture_with_a_negative_prompt_is_the_one_of_diffusers() {
    let negative = ["--guidance-scale", "4", "--eta", "0.5", "--negative-prompt", "red apple, hot pepper"];
    assert_equals_diffusers("negative", &negative);
}

#[test]
fn a_wide_picture_is_the_one_of_diffusers() {
    assert_equals_diffusers("wide", &["--width", "48", "--height", "24"]);
}

#[test]
fn a_picture_under_a_scaled_lora_is_the_one_of_diffusers() {
    let lora = format!("{}:0.5", golden().join("lora.safetensors").display());
    assert_equals_diffusers("lora", &["--guidance-scale", "3", "--lora", &lora]);
    let quarter = format!("{}:0.25", golden().join("lora.safetensors").display());
    assert_equals_diffusers("lora", &["--guidance-scale", "3", "--lora", &quarter, "--lora", &quarter]);
}

#[test]
fn golden_pictures_differ_where_options_do() {
    let pictures: Vec<RgbImage> = ["plain-5", "eta-5", "unguided-5", "negative-5", "lora-5", "plain-6"]
        .map(|name| rgb(&golden().join(format!("{name}.png"))))
        .into();
    for (i, a) in pictures.iter().enumerate() {
        for b in &pictures[..i] {
            assert!(furthest(a, b) > 10 * LEVELS, "{}", furthest(a, b));
        }
    }
}

#[test]
fn a_unet_folder_replaces_the_models_own() {
    let dir = tempfile::tempdir().unwrap();
    let unet = golden().join("model/unet");
    paint(dir.path(), &["--unet", unet.to_str().unwrap()]).assert().success();
    assert!(furthest(&rgb(&dir.path().join("000000-00.png")), &rgb(&golden().join("plain-5.png"))) <= LEVELS);
    let missing = paint(&dir.path().join("other"), &["--unet", "/no/such/unet"]).assert().failure().code(1);
    assert!(String::from_utf8_lossy(&missing.get_output().stderr).contains("/no/such/unet"));
}

#[test]
fn pictures_carry_their_parameters_and_images_jsonl_lists_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("pictures");
    let call = paint(
        &out,
        &["--num-images", "2", "--negative-prompt", "blauer Fuchs 🦊", "--prompt", "red panda", "--grid", "--json"],
    )
    .assert()
    .success();
    let report: Value = serde_json::from_slice(&call.get_output().stdout).unwrap();
    assert_eq!((&report["painted"], &report["skipped"]), (&4.into(), &0.into()));
    let records = index(&out);
    assert_eq!(report["images"].as_array().unwrap(), &records);
    let files: Vec<&str> = records.iter().map(|r| r["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["000000-00.png", "000000-01.png", "000001-00.png", "000001-01.png"]);
    let last = &records[3];
    assert_eq!((&last["prompt"], &last["seed"], &last["steps"]), (&"red panda".into(), &6.into(), &10.into()));
    assert_eq!(last["weights"].as_object().unwrap().len(), 3);
    assert!(last["weights"]["unet/diffusion_pytorch_model.safetensors"].as_str().unwrap().len() == 64);
    let text = |key| diffpref::painting::read_png_text(&out.join("000001-01.png"), key).unwrap();
    assert_eq!(&serde_json::from_str::<Value>(&text("diffpref")).unwrap(), last);
    let parameters = text("parameters");
    assert!(parameters.starts_with("red panda\nNegative prompt: blauer Fuchs 🦊\nSteps: 10, Sampler: DDIM, CFG scale: 7.5, Seed: 6, Size: 32x32, Model hash: "));
    assert_eq!(rgb(&out.join("grid.png")).dimensions(), (66, 66));
}

#[test]
fn a_batch_changes_no_picture_by_more_than_rounding() {
    let dir = tempfile::tempdir().unwrap();
    for batch in ["1", "3"] {
        let more = ["--num-images", "2", "--prompt", "red panda", "--eta", "1", "--batch", batch];
        paint(&dir.path().join(batch), &more).assert().success();
    }
    for file in ["000000-00.png", "000000-01.png", "000001-00.png", "000001-01.png"] {
        let levels = furthest(&rgb(&dir.path().join("1").join(file)), &rgb(&dir.path().join("3").join(file)));
        assert!(levels <= LEVELS, "{file}: {levels}");
    }
}

#[test]
fn resume_keeps_equal_pictures_and_makes_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    paint(out, &["--num-images", "3"]).assert().success();
    let before = std::fs::read(out.join("000000-01.png")).unwrap();
    std::fs::remove_file(out.join("000000-01.png")).unwrap();
    let untouched = std::fs::metadata(out.join("000000-00.png")).unwrap().modified().unwrap();
    // a line torn by a crash, and a picture whose line was never written
    let lines = std::fs::read_to_string(out.join("images.jsonl")).unwrap();
    let first = lines.lines().next().unwrap();
    std::fs::write(out.join("images.jsonl"), format!("{first}\n{{\"file\": \"0000")).unwrap();
    let call = paint(out, &["--num-images", "3", "--resume", "--batch", "2", "--json"]).assert().success();
    let report: Value = serde_json::from_slice(&call.get_output().stdout).unwrap();
    assert_eq!((&report["painted"], &report["skipped"]), (&1.into(), &2.into()));
    assert_eq!(index(out).len(), 3);
    assert_eq!(std::fs::metadata(out.join("000000-00.png")).unwrap().modified().unwrap(), untouched);
    let again = image::load_from_memory(&before).unwrap().to_rgb8();
    assert!(furthest(&again, &rgb(&out.join("000000-01.png"))) <= LEVELS);
}
