//! Decoding in tiles, against diffusers (golden/make_tiles.py).

use crate::support::{self, diffpref, furthest, golden, json, model, rgb};
use pipelines::families::ModelFolder;
use pipelines::models::AutoencoderKl;
use pipelines::sampling::to_bytes;
use pipelines::weights::{LoadOptions, TensorFile};
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn vae() -> AutoencoderKl {
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
    ModelFolder::open(&model()).unwrap().load_vae(None, &options).unwrap()
}

/// The largest difference of two pictures in levels of 255.
fn levels(ours: &Tensor, theirs: &Tensor) -> f64 {
    let (ours, theirs) = (to_bytes(ours).unwrap(), to_bytes(theirs).unwrap());
    (ours.to_kind(Kind::Int) - theirs.to_kind(Kind::Int)).abs().max().double_value(&[])
}

#[test]
fn tiles_come_out_as_in_diffusers() {
    let _frozen = tch::no_grad_guard();
    let (vae, file) = (vae(), TensorFile::open(&golden("tiles/tiles.safetensors")).unwrap());
    for case in ["both", "wide", "sliver", "even"] {
        let tensor = |name: &str| file.tensor(&format!("{case}.{name}")).unwrap();
        let tiled = vae.decode_tiled(&tensor("latents")).unwrap();
        let difference = (&tiled - tensor("tiled")).abs().max().double_value(&[]);
        eprintln!("{case}: {difference:e}");
        assert!(levels(&tiled, &tensor("tiled")) <= 1.0 && difference < 1e-4, "{case}: {difference}");
        assert!(levels(&tiled, &tensor("whole")) > 1.0, "{case}: tiles change a picture");
    }
    let small = Tensor::randn([1, 4, 16, 16], (Kind::Float, Device::Cpu));
    assert!(vae.decode_tiled(&small).unwrap().equal(&vae.decode(&small).unwrap()), "one tile is the whole");
}

/// Paints the picture of golden/tiles into `out`.
fn paint(out: &Path, more: &[&str]) -> assert_cmd::Command {
    let mut command = diffpref();
    command.args([
        "generate",
        "--prompt",
        "a black cat in the forest",
        "--seed",
        "5",
        "--steps",
        "10",
        "--device",
        "cpu",
    ]);
    command.args(["--width", "80", "--height", "56", "--model"]).arg(model()).arg("--out").arg(out).args(more);
    command
}

#[test]
fn a_tiled_picture_is_the_one_of_diffusers_and_its_record_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (on, auto) = (dir.path().join("on"), dir.path().join("auto"));
    paint(&on, &["--vae-tiling", "on"]).assert().success();
    paint(&auto, &[]).assert().success();
    let picture = |out: &Path| rgb(&out.join("000000-00.png"));
    assert!(furthest(&picture(&on), &rgb(&golden("tiles/tiled-5.png"))) <= 2);
    assert!(furthest(&picture(&on), &picture(&auto)) > 2, "here memory is not short");
    assert_eq!(json(&on.join("images.jsonl"))["vae_tiling"], true);
    assert_eq!(json(&auto.join("images.jsonl"))["vae_tiling"], false);
    paint(&on, &["--resume"]).assert().success();
    let refused = paint(&on, &["--resume", "--vae-tiling", "off"]).assert().failure().code(1);
    let text = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(text.contains("was made with another vae_tiling: true there, false asked for"), "{text}");
}

#[test]
fn a_vae_that_cannot_be_tiled_is_refused_where_tiles_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("model");
    support::copy(&model(), &copy);
    let config = copy.join("vae/config.json");
    let mut changed = json(&config);
    changed["sample_size"] = 2.into();
    std::fs::write(&config, changed.to_string()).unwrap();
    let out = dir.path().join("out");
    let mut command = diffpref();
    command.args(["generate", "--prompt", "a cat", "--device", "cpu", "--vae-tiling", "on", "--model"]);
    let refused = command.arg(&copy).arg("--out").arg(&out).assert().failure().code(2);
    let text = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(
        text.contains("--vae-tiling on: the sample_size of ") && text.contains("is 2, which makes no whole tiles"),
        "{text}"
    );
    assert!(!out.exists());
}
