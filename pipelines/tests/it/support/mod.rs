//! Models with drawn weights for tests: the formula of `golden/networks.py`, in Rust.

pub mod compute;
pub mod schedule;

use diffpref_native::Generator;
use pipelines::models::{AutoencoderKl, ClipTextConfig, ClipTextModel, UNet2DConditionModel, UNetConfig, VaeConfig};
use pipelines::weights::{ParameterShapes, write_safetensors};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// One parameter: normal numbers from a generator seeded by its name, scaled so that a wrong activation shows.
pub fn draw(name: &str, shape: &[i64]) -> Tensor {
    let digest = Sha256::digest(name.as_bytes());
    let seed = u64::from_le_bytes(digest[..8].try_into().unwrap()) >> 1;
    let x = Generator::cpu(seed).randn(shape);
    if shape.len() == 1 {
        return if name.ends_with("weight") { x * 0.2 + 1.0 } else { x * 0.2 };
    }
    let gain = if name.starts_with("quant_conv") { 0.3 } else { 1.5 };
    x * (gain / (shape[1..].iter().product::<i64>() as f64).sqrt())
}

pub fn drawn(shapes: &ParameterShapes) -> Vec<(String, Tensor)> {
    shapes.iter().map(|(name, shape)| (name.clone(), draw(name, shape))).collect()
}

pub fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/networks").join(file)
}

/// The weight file's stem of a kind of component.
pub fn stem(kind: &str) -> &'static str {
    if kind == "clip" { "model" } else { "diffusion_pytorch_model" }
}

pub fn shapes(kind: &str, dir: &Path) -> ParameterShapes {
    match kind {
        "unet" => UNet2DConditionModel::parameter_shapes(&UNetConfig::read(dir).unwrap()),
        "vae" => AutoencoderKl::parameter_shapes(&VaeConfig::read(dir).unwrap()),
        _ => ClipTextModel::parameter_shapes(&ClipTextConfig::read(dir).unwrap()),
    }
}

/// Makes the component folder `to` of a golden case: its config.json and drawn weights. Returns the kind.
pub fn make_component(case: &str, to: &Path) -> String {
    let kind = case.split('_').next().unwrap().to_string();
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(golden(&format!("{case}.json")), to.join("config.json")).unwrap();
    let file = to.join(format!("{}.safetensors", stem(&kind)));
    write_safetensors(&file, &drawn(&shapes(&kind, to)), &[("format", "pt")]).unwrap();
    kind
}

/// Makes a small UNet folder that computes in no time; returns its configuration's text.
pub fn make_tiny_unet(to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let config = serde_json::json!({
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": 2,
        "block_out_channels": [8, 16],
        "cross_attention_dim": 12,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 8,
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    });
    std::fs::write(to.join("config.json"), config.to_string()).unwrap();
    let file = to.join("diffusion_pytorch_model.safetensors");
    write_safetensors(&file, &drawn(&shapes("unet", to)), &[("format", "pt")]).unwrap();
}
