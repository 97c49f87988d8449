//! Numbers that are not finite: an error in place of black pictures.

use super::pictures::{golden, paint, refused};
use crate::support::{self, World};
use pipelines::weights::{TensorFile, write_safetensors};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// A copy of a tensor file with `value` in the first place of its tensor `name`.
fn spoilt(from: &Path, to: &Path, name: &str, value: f64) {
    let file = TensorFile::open(from).unwrap();
    let tensors: Vec<(String, Tensor)> =
        file.names().map(|n| (n.to_string(), file.tensor(n).unwrap().copy())).collect();
    drop(file);
    let place = tensors.iter().find(|(n, _)| n == name).unwrap();
    let _ = place.1.flatten(0, -1).get(0).fill_(value);
    write_safetensors(to, &tensors, &[("format", "pt")]).unwrap();
}

fn a_lora_with(dir: &Path, value: f64) -> (PathBuf, String) {
    let file = dir.join("spoilt.safetensors");
    let name = TensorFile::open(&support::lora()).unwrap().names().next().unwrap().to_string();
    spoilt(&support::lora(), &file, &name, value);
    (file, name)
}

#[test]
fn a_lora_with_a_number_that_is_not_finite_is_refused_by_file_and_layer() {
    let world = World::new(12);
    for value in [f64::NAN, f64::INFINITY] {
        let (file, name) = a_lora_with(&world.path("."), value);
        let module = name.split(".lora").next().unwrap();
        let out = world.path("pictures");
        let said = refused(paint(&out, &[]).arg("--lora").arg(&file), 1, &world.path("."));
        assert!(said.contains(&format!("{module} has values that are not finite")), "{said}");
        assert!(said.contains("spoilt.safetensors"), "{said}");
        let init = format!("lora.init={:?}", file.display().to_string());
        let said = world.refused(&mut world.train(&["--dry-run", "--set", &init, "--set", "lora.rank=4"]), 1);
        assert!(said.contains(&format!("{module} has values that are not finite")), "{said}");
    }
}

#[test]
fn weights_with_a_number_that_is_not_finite_are_refused_by_file_and_tensor() {
    for (part, stem, tensor) in [
        ("unet", "diffusion_pytorch_model", "conv_in.weight"),
        ("vae", "diffusion_pytorch_model", "decoder.conv_in.bias"),
        ("text_encoder", "model", "final_layer_norm.weight"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        support::copy(&golden().join("model"), &model);
        let file = model.join(part).join(format!("{stem}.safetensors"));
        spoilt(&file.clone(), &dir.path().join("new"), tensor, f64::NAN);
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        let mut command = support::diffpref();
        command.args(["generate", "--prompt", "a cat", "--steps", "2", "--device", "cpu", "--model"]).arg(&model);
        let said = refused(command.arg("--out").arg(dir.path().join("out")), 1, dir.path());
        assert!(said.contains(&format!("{part}/{stem}.safetensors: the weights are damaged")), "{said}");
        assert!(said.contains(&format!("with NaN or infinity (1):\n    {tensor}")), "{said}");
    }
}

#[test]
fn a_prediction_that_leaves_the_range_of_numbers_names_picture_and_step() {
    let dir = tempfile::tempdir().unwrap();
    let lora = format!("{}:1e38", support::lora().display());
    let said = refused(&mut paint(dir.path(), &["--lora", &lora]), 1, dir.path());
    assert!(said.contains("the picture of ") && said.contains("would be black"), "{said}");
    assert!(said.contains("the latents of picture 1 of the batch are not finite after step 1 (timestep "), "{said}");
    assert!(support::names(dir.path()).iter().all(|name| !name.ends_with(".png")));
}
