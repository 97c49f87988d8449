//! Networks against diffusers and transformers: `golden/make_networks.py` made the values.

use crate::support;
use crate::support::compute::{compute, read};
use pipelines::models::UNet2DConditionModel;
use pipelines::weights::{LoadOptions, TensorFile};
use pipelines::{Conditioning, Network as _};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// float32 sums in another order; outputs are of the order of 1.
const OUTPUT_TOLERANCE: f64 = 1e-4;
const GRADIENT_TOLERANCE: f64 = 1e-3;
/// Elements of each gradient in a golden file.
const SAMPLED: i64 = 32;

/// ||a - b|| / max(||b||, 1e-4 x `whole`): a gradient that is exactly 0 in theory is rounding noise.
fn deviation(a: &Tensor, b: &Tensor, whole: f64) -> f64 {
    let norm = |t: &Tensor| t.to_kind(Kind::Double).norm().double_value(&[]);
    norm(&(a.to_kind(Kind::Double) - b.to_kind(Kind::Double))) / norm(b).max(1e-4 * whole)
}

fn check(case: &str) {
    let dir = tempfile::tempdir().unwrap();
    let kind = support::make_component(case, dir.path());
    check_folder(case, &kind, dir.path());
}

fn check_folder(case: &str, kind: &str, dir: &Path) {
    let file = TensorFile::open(&support::golden(&format!("{case}.safetensors"))).unwrap();
    let made = compute(kind, dir, &file, None);
    for (name, expected) in read(&file, "output.") {
        let difference = (&made.outputs[&name] - &expected).abs().max().double_value(&[]);
        println!("{case}: {name} differs by {difference:.2e}");
        assert!(difference < OUTPUT_TOLERANCE, "{case}: {name} differs by {difference}");
    }
    let (norms, samples) = (file.tensor("norms").unwrap(), file.tensor("samples").unwrap());
    assert_eq!(norms.size(), [made.gradients.len() as i64]);
    let whole = norms.norm().double_value(&[]);
    let (mut start, mut worst) = (0, 0.0_f64);
    for (i, (name, gradient)) in made.gradients.iter().enumerate() {
        let count = SAMPLED.min(gradient.numel() as i64);
        let places: Vec<i64> = (0..count).map(|j| j * gradient.numel() as i64 / count).collect();
        let ours = gradient.flatten(0, -1).index_select(0, &Tensor::from_slice(&places));
        // A sample stands for its share of the whole network's norm.
        let share = whole * (count as f64 / gradient.numel() as f64).sqrt();
        let sampled = deviation(&ours, &samples.narrow(0, start, count), share);
        let norm = norms.double_value(&[i as i64]);
        let normed = (gradient.norm().double_value(&[]) - norm).abs() / norm.max(1e-4 * whole);
        assert!(sampled.max(normed) < GRADIENT_TOLERANCE, "{case}: the gradient of {name}: {sampled}, norm {normed}");
        worst = worst.max(sampled).max(normed);
        start += count;
    }
    assert_eq!(samples.size(), [start]);
    println!("{case}: gradients deviate by at most {worst:.2e}");
}

#[test]
fn a_unet_of_sd15_structure_equals_diffusers() {
    check("unet_sd15");
}

#[test]
fn a_unet_of_sd21_structure_equals_diffusers() {
    check("unet_sd21");
}

#[test]
fn a_unet_of_three_levels_equals_diffusers() {
    check("unet_demo");
}

#[test]
fn a_unet_of_sdxl_structure_equals_diffusers() {
    check("unet_sdxl");
}

#[test]
fn a_vae_equals_diffusers() {
    check("vae_sd");
}

#[test]
fn a_text_encoder_with_quick_gelu_equals_transformers() {
    check("clip_quick");
}

#[test]
fn a_text_encoder_with_gelu_and_projection_equals_transformers() {
    check("clip_gelu");
}

#[test]
fn a_text_encoder_file_without_its_prefix_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    support::make_component("clip_quick", dir.path());
    let path = dir.path().join("model.safetensors");
    let shapes = support::shapes("clip", dir.path());
    let bare = support::drawn(&shapes).into_iter().map(|(n, t)| (n.replace("text_model.", ""), t));
    let ids = [("embeddings.position_ids".to_string(), Tensor::arange(16, (Kind::Int64, Device::Cpu)))];
    pipelines::weights::write_safetensors(&path, &bare.chain(ids).collect::<Vec<_>>(), &[]).unwrap();
    check_folder("clip_quick", "clip", dir.path());
}

#[test]
fn a_vae_file_with_older_attention_names_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    support::make_component("vae_sd", dir.path());
    let path = dir.path().join("diffusion_pytorch_model.safetensors");
    let older = support::drawn(&support::shapes("vae", dir.path())).into_iter().map(|(name, tensor)| {
        let older = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
        match older.iter().find(|(new, _)| name.contains(new)) {
            // 1x1 convolutions, as single-file checkpoints store them
            Some((new, old)) if tensor.dim() == 2 => (name.replace(new, old), tensor.unsqueeze(-1).unsqueeze(-1)),
            Some((new, old)) => (name.replace(new, old), tensor),
            None => (name, tensor),
        }
    });
    pipelines::weights::write_safetensors(&path, &older.collect::<Vec<_>>(), &[]).unwrap();
    check_folder("vae_sd", "vae", dir.path());
}

#[test]
fn gradients_equal_finite_differences_in_float64() {
    tch::set_num_threads(1); // hundreds of tiny passes: a team of threads would mostly wait for itself
    let dir = tempfile::tempdir().unwrap();
    support::make_tiny_unet(dir.path());
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Double };
    let unet = UNet2DConditionModel::load(dir.path(), &options).unwrap();
    let input = |name: &str, shape: &[i64]| support::draw(name, shape).to_kind(Kind::Double);
    let latents = input("latents", &[1, 4, 6, 6]);
    let conditioning = Conditioning::of_prompt(input("prompt", &[1, 3, 12]));
    let weights = input("weights", &[1, 4, 6, 6]);
    let timesteps = Tensor::from_slice(&[400_i64]);
    let loss = || {
        let prediction = unet.forward(&latents, &timesteps, &conditioning, None).unwrap();
        assert_eq!(prediction.kind(), Kind::Double);
        (prediction.square() * &weights).sum(Kind::Double)
    };
    let parameters: Vec<(String, Tensor)> =
        unet.named_parameters().into_iter().map(|(n, t)| (n, t.set_requires_grad(true))).collect();
    let leaves: Vec<&Tensor> = parameters.iter().map(|(_, t)| t).collect();
    let gradients = Tensor::run_backward(&[loss()], &leaves, false, false);
    let _guard = tch::no_grad_guard();
    let whole = gradients.iter().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();
    let h = 1e-5;
    for ((name, leaf), gradient) in parameters.iter().zip(&gradients) {
        let direction = support::draw(&format!("direction {name}"), &leaf.size()).to_kind(Kind::Double);
        let direction = &direction / direction.norm();
        let mut shifted = leaf.shallow_clone();
        let _ = shifted.g_add_(&(&direction * h));
        let above = loss().double_value(&[]);
        let _ = shifted.g_sub_(&(&direction * (2.0 * h)));
        let below = loss().double_value(&[]);
        let _ = shifted.g_add_(&(&direction * h));
        let (slope, expected) =
            ((above - below) / (2.0 * h), (gradient * &direction).sum(Kind::Double).double_value(&[]));
        let error = (slope - expected).abs() / expected.abs().max(1e-3 * whole);
        assert!(error < 1e-5, "{name}: slope {slope}, gradient {expected}");
    }
}

#[test]
fn float32_masters_serve_a_bfloat16_pass() {
    let dir = tempfile::tempdir().unwrap();
    support::make_tiny_unet(dir.path());
    let unet = UNet2DConditionModel::load(dir.path(), &LoadOptions::cpu()).unwrap();
    let latents = support::draw("latents", &[1, 4, 8, 8]);
    let conditioning = Conditioning::of_prompt(support::draw("prompt", &[1, 3, 12]));
    let timesteps = Tensor::from_slice(&[400_i64]);
    let exact = unet.forward(&latents, &timesteps, &conditioning, None).unwrap();
    let half = unet.forward(&latents.to_kind(Kind::BFloat16), &timesteps, &conditioning, None).unwrap();
    assert_eq!(half.kind(), Kind::BFloat16);
    assert!(deviation(&half, &exact, 0.0) < 0.05);
}

#[test]
fn published_configurations_have_the_published_numbers_of_tensors_and_parameters() {
    let unet = |text: serde_json::Value| {
        let mut config = serde_json::json!({"layers_per_block": 2, "norm_num_groups": 32, "sample_size": 64});
        config.as_object_mut().unwrap().extend(text.as_object().unwrap().clone());
        shapes_of("unet", config)
    };
    let (down, up) = ("DownBlock2D", "UpBlock2D");
    let (cross_down, cross_up) = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D");
    let sd = serde_json::json!({
        "block_out_channels": [320, 640, 1280, 1280], "down_block_types": [cross_down, cross_down, cross_down, down],
        "up_block_types": [up, cross_up, cross_up, cross_up], "cross_attention_dim": 768, "attention_head_dim": 8,
    });
    assert_eq!(unet(sd.clone()), (686, 859_520_964));
    let mut sd2 = sd;
    sd2["cross_attention_dim"] = 1024.into();
    sd2["attention_head_dim"] = serde_json::json!([5, 10, 20, 20]);
    sd2["use_linear_projection"] = true.into();
    assert_eq!(unet(sd2), (686, 865_910_724));
    let sdxl = serde_json::json!({
        "block_out_channels": [320, 640, 1280], "down_block_types": [down, cross_down, cross_down],
        "up_block_types": [cross_up, cross_up, up], "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20],
        "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": true, "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
    });
    assert_eq!(unet(sdxl), (1680, 2_567_463_684));
    let clip = |class: &str, width: i64, layers: i64, heads: i64, projection: i64| {
        let config = serde_json::json!({
            "architectures": [class], "model_type": "clip_text_model", "hidden_size": width, "intermediate_size": 4 * width,
            "num_hidden_layers": layers, "num_attention_heads": heads, "projection_dim": projection,
        });
        shapes_of("clip", config)
    };
    assert_eq!(clip("CLIPTextModel", 768, 12, 12, 768), (196, 123_060_480));
    assert_eq!(clip("CLIPTextModel", 1024, 23, 16, 512), (372, 340_387_840));
    assert_eq!(clip("CLIPTextModelWithProjection", 1280, 32, 20, 1280), (517, 694_659_840));
}

/// How many tensors and how many numbers a configuration asks for.
fn shapes_of(kind: &str, config: serde_json::Value) -> (usize, i64) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let shapes = support::shapes(kind, dir.path());
    (shapes.len(), shapes.iter().map(|(_, shape)| shape.iter().product::<i64>()).sum())
}

#[test]
fn inputs_of_a_wrong_shape_are_refused_with_both_shapes() {
    let dir = tempfile::tempdir().unwrap();
    support::make_tiny_unet(dir.path());
    let unet = UNet2DConditionModel::load(dir.path(), &LoadOptions::cpu()).unwrap();
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let message = |latents: &[i64], times: &[i64], prompt: &[i64]| {
        let conditioning = Conditioning::of_prompt(zeros(prompt));
        unet.forward(&zeros(latents), &zeros(times), &conditioning, None).unwrap_err().to_string()
    };
    assert_eq!(
        message(&[1, 3, 8, 8], &[1], &[1, 3, 12]),
        "a batch of latents has the shape [1, 3, 8, 8], expected [B, 4, h, w]"
    );
    assert_eq!(
        message(&[2, 4, 8, 8], &[2], &[2, 3, 768]),
        "a batch of prompt embeddings has the shape [2, 3, 768], expected [2, L, 12]"
    );
    assert_eq!(message(&[2, 4, 8, 8], &[1], &[2, 3, 12]), "a batch of timesteps has the shape [1], expected [2]");
}
