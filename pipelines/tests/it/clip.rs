//! CLIP with both towers against transformers (`golden/make_clip.py` made the values), and files that hold no CLIP.

use crate::support::draw;
use pipelines::models::{ClipConfig, ClipModel, ConfigFile};
use pipelines::weights::original::{Form, openclip_place};
use pipelines::weights::{LoadOptions, TensorFile, write_safetensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// float32 sums in another order; features are of the order of 1.
const TOLERANCE: f64 = 1e-5;
/// Logarithm of the factor of cosines in the golden files.
const LOGIT_SCALE: f64 = 2.6592;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clip").join(file)
}

fn config(case: &str) -> ClipConfig {
    ClipConfig::from_file(&ConfigFile::read_file(&golden(&format!("{case}.json"))).unwrap()).unwrap()
}

/// Drawn weights of a case by the names of transformers.
fn weights(case: &str) -> Vec<(String, Tensor)> {
    let one = |(name, shape): (String, Vec<i64>)| {
        let tensor =
            if shape.is_empty() { Tensor::from(LOGIT_SCALE).to_kind(Kind::Float) } else { draw(&name, &shape) };
        (name, tensor)
    };
    ClipModel::parameter_shapes(&config(case)).into_iter().map(one).collect()
}

/// A folder with config.json of a case and these weights.
fn folder(case: &str, weights: &[(String, Tensor)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(golden(&format!("{case}.json")), dir.path().join("config.json")).unwrap();
    write_safetensors(&dir.path().join("model.safetensors"), weights, &[("format", "pt")]).unwrap();
    dir
}

/// Every output of a golden file against the model in `dir`.
fn check(case: &str, dir: &Path) {
    let _frozen = tch::no_grad_guard();
    let file = TensorFile::open(&golden(&format!("{case}.safetensors"))).unwrap();
    let clip = ClipModel::load(dir, &LoadOptions::cpu()).unwrap();
    let side = clip.image_size();
    let (pixels, ids) = (draw_pixels(side), file.tensor("input.ids").unwrap());
    let (text_positions, text_features) = clip.text_positions(&ids).unwrap();
    let picture_positions = clip.picture_positions(&pixels).unwrap().narrow(0, 0, 1);
    let shown = Tensor::from_slice(&[0, 1, 2, picture_positions.size()[1] - 1]);
    let made = [
        ("text_features", text_features),
        ("picture_features", clip.picture_features(&pixels).unwrap()),
        ("text_positions", text_positions.narrow(0, 0, 1)),
        ("picture_positions", picture_positions.index_select(1, &shown)),
        ("scale", Tensor::from(clip.scale()).to_kind(Kind::Float)),
    ];
    for (name, made) in made {
        let expected = file.tensor(&format!("output.{name}")).unwrap();
        assert_eq!(made.size(), expected.size(), "{case}: {name}");
        let size = expected.abs().max().double_value(&[]).max(1.0);
        let difference = (made - expected).abs().max().double_value(&[]) / size;
        println!("{case}: {name} differs by {difference:.2e}");
        assert!(difference < TOLERANCE, "{case}: {name} differs by {difference}");
    }
}

/// Normal numbers, as `torch.randn` in the golden script.
fn draw_pixels(side: i64) -> Tensor {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(b"input.pixels");
    let seed = u64::from_le_bytes(digest[..8].try_into().unwrap()) >> 1;
    diffpref_native::Generator::cpu(seed).randn(&[3, 3, side, side])
}

#[test]
fn a_clip_of_vit_h_14_structure_equals_transformers() {
    check("vit_h_14", folder("vit_h_14", &weights("vit_h_14")).path());
}

#[test]
fn a_clip_of_vit_b_32_structure_with_quick_gelu_equals_transformers() {
    check("vit_b_32", folder("vit_b_32", &weights("vit_b_32")).path());
}

#[test]
fn a_prefix_of_all_names_old_buffers_and_a_second_copy_of_the_configuration_are_read() {
    let mut prefixed: Vec<(String, Tensor)> =
        weights("vit_b_32").into_iter().map(|(name, tensor)| (format!("model.{name}"), tensor)).collect();
    let ids = Tensor::arange(16, (Kind::Int64, Device::Cpu));
    prefixed.push(("model.text_model.embeddings.position_ids".into(), ids));
    let dir = folder("vit_b_32", &prefixed);
    let path = dir.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["vision_config_dict"] = config["vision_config"].clone();
    config["vision_config"]["num_hidden_layers"] = 9.into();
    std::fs::write(&path, config.to_string()).unwrap();
    check("vit_b_32", dir.path());
}

/// The tensors of a case in OpenCLIP's layout, the text tower's names behind `text`.
fn openclip(case: &str, text: &str) -> Vec<(String, Tensor)> {
    let mut made: BTreeMap<String, Vec<(i64, Tensor)>> = BTreeMap::new();
    for (name, tensor) in weights(case) {
        let (place, form) = openclip_place(&name).unwrap();
        let place = if name.starts_with("text_") { format!("{text}{place}") } else { place };
        let (third, tensor) = match form {
            Form::Third(third) => (third, tensor),
            Form::Transposed => (0, tensor.transpose(0, 1).contiguous()),
            Form::Same | Form::Pointwise => (0, tensor),
        };
        made.entry(place).or_default().push((third, tensor));
    }
    let join = |(name, mut parts): (String, Vec<(i64, Tensor)>)| {
        parts.sort_by_key(|(third, _)| *third);
        let parts: Vec<Tensor> = parts.into_iter().map(|(_, tensor)| tensor).collect();
        (name, if parts.len() == 1 { parts[0].shallow_clone() } else { Tensor::cat(&parts, 0) })
    };
    made.into_iter().map(join).collect()
}

#[test]
fn openclips_layout_reads_the_same_with_and_without_a_prefix_of_the_text_tower() {
    for text in ["", "text."] {
        check("vit_h_14", folder("vit_h_14", &openclip("vit_h_14", text)).path());
    }
}

#[test]
fn openclips_configuration_and_published_widths_give_the_published_numbers_of_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let count = |config: &ClipConfig| {
        let shapes = ClipModel::parameter_shapes(config);
        (shapes.len(), shapes.iter().map(|(_, shape)| shape.iter().product::<i64>()).sum::<i64>())
    };
    let written = |text: &str| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        ClipConfig::from_file(&ConfigFile::parse(dir.path(), &json.to_string()).unwrap()).unwrap()
    };
    let base = r#"{"model_type": "clip"}"#;
    assert_eq!(count(&written(base)).1, 151_277_313);
    let large = r#"{"model_type": "clip", "projection_dim": 768,
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                          "num_attention_heads": 16, "patch_size": 14}}"#;
    assert_eq!(count(&written(large)).1, 427_616_513);
    let huge = r#"{"model_type": "clip", "projection_dim": 1024,
        "text_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        "vision_config": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
                          "num_attention_heads": 16, "patch_size": 14}}"#;
    assert_eq!(count(&written(huge)), (910, 986_109_441));
}

#[test]
fn weights_without_a_clip_are_refused_with_what_they_are() {
    let refusal = |names: &[&str]| {
        let tensors: Vec<_> =
            names.iter().map(|name| (name.to_string(), Tensor::zeros([1], (Kind::Float, Device::Cpu)))).collect();
        let dir = tempfile::tempdir().unwrap();
        write_safetensors(&dir.path().join("model.safetensors"), &tensors, &[]).unwrap();
        let said = ClipModel::load(dir.path(), &LoadOptions::cpu()).unwrap_err().to_string();
        assert!(said.contains("model.safetensors: ") && said.ends_with("OpenCLIP (docs/scorers.md)"), "{said}");
        said.split_once("model.safetensors: ").unwrap().1.split(';').next().unwrap().to_string()
    };
    let towers = ["vision_model.embeddings.class_embedding", "text_model.embeddings.token_embedding.weight"];
    assert_eq!(
        refusal(&["blip.visual_encoder.cls_token"]),
        "this looks like ImageReward, whose network is a BLIP: take the scorer \"imagereward\""
    );
    assert_eq!(refusal(&["visual_encoder.cls_token", "text_encoder.cls"]), "this looks like a BLIP");
    assert_eq!(refusal(&["logit_bias", "vision_model.head.probe", towers[1]]), "this looks like a SigLIP");
    assert_eq!(refusal(&["down_blocks.0.resnets.0.conv1.weight"]), "this looks like a UNet of diffusers");
    assert_eq!(refusal(&[towers[1]]), "this looks like a text encoder alone");
    assert_eq!(refusal(&[towers[0]]), "this looks like a vision tower alone");
    assert_eq!(
        refusal(&[towers[0], towers[1], "cross_model.layers.0.0.fn.to_q.weight"]),
        "this looks like MPS: take the scorer \"mps\""
    );
    assert_eq!(
        refusal(&["visual.layer1.0.conv1.weight", "token_embedding.weight"]),
        "this looks like a CLIP with a ResNet"
    );
    assert_eq!(refusal(&["a", "b"]), "this is no CLIP (2 tensors, the first is a)");
}

#[test]
fn a_folder_without_weights_or_configuration_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = || ClipModel::load(dir.path(), &LoadOptions::cpu()).unwrap_err().to_string();
    assert!(
        refusal().ends_with("has no model.safetensors: docs/scorers.md says how to make the folder"),
        "{}",
        refusal()
    );
    std::fs::write(dir.path().join("open_clip_model.safetensors"), "").unwrap();
    assert!(refusal().ends_with("if it holds the CLIP, rename it to model.safetensors"), "{}", refusal());
    std::fs::write(dir.path().join("HPS_v2.1_compressed.pt"), "").unwrap();
    assert!(
        refusal().contains("HPS_v2.1_compressed.pt is a pickle, which can run code and is never loaded"),
        "{}",
        refusal()
    );
    let path = dir.path().join("model.safetensors");
    write_safetensors(&path, &weights("vit_b_32"), &[]).unwrap();
    assert!(refusal().ends_with("has no config.json: copy it from the repository of the weights"), "{}", refusal());
    write_safetensors(&path, &openclip("vit_b_32", ""), &[]).unwrap();
    let said = refusal();
    assert!(said.contains("a vision tower 128 wide is published with quick_gelu and with gelu"), "{said}");
    assert!(said.ends_with("put the model's open_clip_config.json or config.json into the folder"), "{said}");
    let openclip = |change: &str| {
        let text = format!(r#"{{"model_cfg": {{"embed_dim": 32, {change}}}}}"#);
        std::fs::write(dir.path().join("open_clip_config.json"), text).unwrap();
        refusal()
    };
    let said = openclip(r#""vision_cfg": {"timm_model_name": "vit_so400m"}, "text_cfg": {}"#);
    assert!(said.contains("vision_cfg: `timm_model_name` is \"vit_so400m\", expected no such key"), "{said}");
    let said = openclip(r#""vision_cfg": {"layers": [3, 4, 6, 3]}, "text_cfg": {}"#);
    assert!(said.contains("`layers` is [3,4,6,3], expected a whole number of at least 1"), "{said}");
}

#[test]
fn weights_of_another_width_and_left_over_tensors_are_listed() {
    let mut tensors = openclip("vit_h_14", "");
    tensors.push(("visual.more".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu))));
    let said = ClipModel::load(folder("vit_h_14", &tensors).path(), &LoadOptions::cpu()).unwrap_err().to_string();
    assert!(said.contains("extra (1):\n    visual.more"), "{said}");
    let said = ClipModel::load(folder("vit_b_32", &weights("vit_h_14")).path(), &LoadOptions::cpu()).unwrap_err();
    let said = said.to_string();
    assert!(said.contains("token_embedding.weight: expected [100, 64], found [100, 128]"), "{said}");
    assert!(said.ends_with("Use the config.json that belongs to these weights, or download both again"), "{said}");
}

#[test]
fn pictures_of_another_size_are_refused_with_both_shapes() {
    let dir = folder("vit_b_32", &weights("vit_b_32"));
    let clip = ClipModel::load(dir.path(), &LoadOptions::cpu()).unwrap();
    let said = clip.picture_features(&Tensor::zeros([1, 3, 64, 64], (Kind::Float, Device::Cpu))).unwrap_err();
    assert_eq!(said.to_string(), "a batch of pictures has the shape [1, 3, 64, 64], expected [B, 3, 224, 224]");
}
