//! Files of a model: what is read, and how what is wrong is said.

use crate::support;
use pipelines::families::ModelFolder;
use pipelines::models::UNet2DConditionModel;
use pipelines::weights::{LoadOptions, TensorFile, WeightStore, write_safetensors};
use pipelines::{Levels, Network as _};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

fn load_error(dir: &Path) -> String {
    UNet2DConditionModel::load(dir, &LoadOptions::cpu()).unwrap_err().to_string()
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice(values)
}

#[test]
fn missing_extra_and_misshapen_tensors_are_listed_in_one_error() {
    let dir = tempfile::tempdir().unwrap();
    support::make_tiny_unet(dir.path());
    let mut tensors = support::drawn(&support::shapes("unet", dir.path()));
    tensors.retain(|(name, _)| name != "conv_in.bias");
    tensors.push(("conv_in.lora".into(), floats(&[1.0])));
    for (name, tensor) in &mut tensors {
        match name.as_str() {
            "conv_out.bias" => *tensor = floats(&[1.0, 2.0]),
            "conv_norm_out.bias" => *tensor = Tensor::zeros([8], (Kind::Int64, Device::Cpu)),
            _ => {}
        }
    }
    write_safetensors(&dir.path().join(WEIGHTS), &tensors, &[]).unwrap();
    let error = load_error(dir.path());
    for part in [
        WEIGHTS,
        "missing (1):\n    conv_in.bias",
        "extra (1):\n    conv_in.lora",
        "misshapen (1):\n    conv_out.bias: expected [4], found [2]",
        "conv_norm_out.bias: I64 instead of floating point",
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn a_truncated_or_foreign_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    support::make_tiny_unet(dir.path());
    let path = dir.path().join(WEIGHTS);
    let whole = std::fs::read(&path).unwrap();
    for length in [whole.len() - 1, whole.len() / 2, 300, 4, 0] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = load_error(dir.path());
        assert!(error.contains(WEIGHTS) && error.contains("again"), "{length} bytes: {error}");
    }
    std::fs::write(&path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
    assert!(load_error(dir.path()).contains("git lfs pull"));
    let mut damaged = whole;
    damaged[20] = 0xff;
    std::fs::write(&path, &damaged).unwrap();
    assert!(load_error(dir.path()).contains(WEIGHTS));
}

#[test]
fn a_folder_with_pickles_only_is_refused_with_the_way_to_convert() {
    let dir = tempfile::tempdir().unwrap();
    support::make_tiny_unet(dir.path());
    std::fs::rename(dir.path().join(WEIGHTS), dir.path().join("diffusion_pytorch_model.bin")).unwrap();
    let error = load_error(dir.path());
    assert!(error.contains("never loaded") && error.contains("save_pretrained"), "{error}");
}

#[test]
fn shards_and_fp16_files_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    write_safetensors(&dir.path().join(a), &[("x".into(), floats(&[1.0]))], &[]).unwrap();
    write_safetensors(&dir.path().join(b), &[("y".into(), floats(&[2.0]).to_kind(Kind::BFloat16))], &[]).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    let write_index = |y: &str, file: &str| {
        let text = serde_json::json!({"metadata": {}, "weight_map": {"x": a, y: file}}).to_string();
        std::fs::write(&index, text).unwrap();
    };
    write_index("y", b);
    let store = WeightStore::open_component(dir.path(), "model").unwrap();
    assert_eq!(store.names().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(store.tensor("y").unwrap().to_kind(Kind::Float).double_value(&[0]), 2.0);
    let refused = |name: &str, file: &str| {
        write_index(name, file);
        WeightStore::open_component(dir.path(), "model").err().unwrap().to_string()
    };
    assert!(refused("z", b).contains("but that file lacks it"));
    assert!(refused("y", "../../etc/passwd").contains("is a path"));
    std::fs::remove_file(&index).unwrap();
    std::fs::rename(dir.path().join(a), dir.path().join("model.fp16.safetensors")).unwrap();
    assert_eq!(WeightStore::open_component(dir.path(), "model").unwrap().names().collect::<Vec<_>>(), ["x"]);
}

#[test]
fn every_kind_and_layout_survives_writing_and_the_bytes_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let matrix = support::draw("matrix", &[5, 3]);
    let mut tensors = vec![
        ("transposed".to_string(), matrix.transpose(0, 1)),
        ("empty".to_string(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))),
        ("number".to_string(), Tensor::from(2.5_f32)),
        ("ids".to_string(), Tensor::from_slice(&[1_i64, -2])),
    ];
    for kind in [Kind::Double, Kind::Half, Kind::BFloat16] {
        tensors.push((format!("{kind:?}"), matrix.to_kind(kind)));
    }
    write_safetensors(&path, &tensors, &[("b", "2"), ("a", "1")]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    tensors.reverse();
    write_safetensors(&path, &tensors, &[("a", "1"), ("b", "2")]).unwrap();
    assert_eq!(bytes, std::fs::read(&path).unwrap());
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.metadata()["b"], "2");
    for (name, tensor) in &tensors {
        let read = file.tensor(name).unwrap();
        assert_eq!((read.kind(), read.size()), (tensor.kind(), tensor.size()), "{name}");
        assert!(read.equal(tensor), "{name}");
    }
    assert!(std::fs::read_dir(dir.path()).unwrap().count() == 1, "a temporary file stayed");
}

#[test]
fn a_saved_unet_loads_again_in_another_kind() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    support::make_tiny_unet(dir.path());
    let unet = UNet2DConditionModel::load(dir.path(), &LoadOptions::cpu()).unwrap();
    unet.save(copy.path(), Kind::Half, None).unwrap();
    let again = UNet2DConditionModel::load(copy.path(), &LoadOptions::cpu()).unwrap();
    for ((name, a), (_, b)) in unet.named_parameters().iter().zip(again.named_parameters()) {
        assert_eq!(b.kind(), Kind::Float);
        assert!(a.to_kind(Kind::Half).to_kind(Kind::Float).equal(&b), "{name}");
    }
    let strange = [("conv_in.bias".to_string(), floats(&[1.0]))];
    assert!(unet.save(copy.path(), Kind::Half, Some(&strange)).is_err());
}

#[test]
fn a_configuration_that_is_not_implemented_is_refused_by_key() {
    let dir = tempfile::tempdir().unwrap();
    support::make_tiny_unet(dir.path());
    let path = dir.path().join("config.json");
    let config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (key, value, expected) in [
        ("class_embed_type", serde_json::json!("timestep"), "null"),
        ("resnet_time_scale_shift", serde_json::json!("scale_shift"), "\"default\""),
        ("down_block_types", serde_json::json!(["DownBlock2D", "AttnDownBlock2D"]), "CrossAttnDownBlock2D"),
        ("block_out_channels", serde_json::json!([8, 15]), "multiples of norm_num_groups, which is 4"),
        ("attention_head_dim", serde_json::json!([2, 3]), "divide block_out_channels"),
        ("layers_per_block", serde_json::json!(-1), "whole number"),
        ("norm_num_groups", serde_json::json!("4"), "whole number"),
    ] {
        let mut changed = config.clone();
        changed[key] = value.clone();
        std::fs::write(&path, changed.to_string()).unwrap();
        let error = load_error(dir.path());
        let named = error.contains("config.json") && error.contains(&format!("`{key}` is {value}"));
        assert!(named && error.contains(expected), "{error}");
    }
}

/// A folder in the layout of Stable Diffusion 1.5 with all its parts but a real tokenizer.
fn make_model(dir: &Path) {
    support::make_tiny_unet(&dir.join("unet"));
    support::make_component("vae_sd", &dir.join("vae"));
    support::make_component("clip_quick", &dir.join("text_encoder"));
    let unet = dir.join("unet/config.json");
    let config =
        std::fs::read_to_string(&unet).unwrap().replace("\"cross_attention_dim\":12", "\"cross_attention_dim\":32");
    std::fs::write(&unet, config).unwrap();
    let shapes = support::shapes("unet", &dir.join("unet"));
    write_safetensors(&dir.join("unet").join(WEIGHTS), &support::drawn(&shapes), &[]).unwrap();
    std::fs::create_dir_all(dir.join("tokenizer")).unwrap();
    std::fs::create_dir_all(dir.join("scheduler")).unwrap();
    let scheduler = r#"{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "steps_offset": 1, "clip_sample": false}"#;
    std::fs::write(dir.join("scheduler/scheduler_config.json"), scheduler).unwrap();
    write_index(dir, &[]);
}

fn write_index(dir: &Path, changes: &[(&str, serde_json::Value)]) {
    let mut index = serde_json::json!({
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [null, null],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    });
    for (key, value) in changes {
        index[key] = value.clone();
    }
    std::fs::write(dir.join("model_index.json"), index.to_string()).unwrap();
}

#[test]
fn a_model_folder_is_read_and_copied() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make_model(dir.path());
    let folder = ModelFolder::open(dir.path()).unwrap();
    assert_eq!(
        folder.weight_files().iter().map(|(part, _)| *part).collect::<Vec<_>>(),
        ["text_encoder", "unet", "vae"]
    );
    let denoiser = folder.load_denoiser(None, &LoadOptions::cpu()).unwrap();
    assert_eq!(denoiser.process.error_factor(&Levels::new(&[1.0, 500.0])).size(), [2]);
    assert_eq!(folder.load_vae(None, &LoadOptions::cpu()).unwrap().factor(), 8);
    folder.copy_without_network(copy.path()).unwrap();
    denoiser.network.save(&copy.path().join("unet"), Kind::Half, None).unwrap();
    ModelFolder::open(copy.path()).unwrap();
    let index = std::fs::read_to_string(copy.path().join("model_index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["safety_checker"], serde_json::json!([null, null]));
}

#[test]
fn a_model_folder_that_is_not_whole_or_not_supported_says_so() {
    let dir = tempfile::tempdir().unwrap();
    make_model(dir.path());
    let error = || ModelFolder::open(dir.path()).unwrap_err().to_string();
    let says = |parts: &[&str]| {
        let error = error();
        let folder = dir.path().display().to_string();
        assert!(error.contains(&folder) && parts.iter().all(|part| error.contains(part)), "{error}");
    };
    write_index(dir.path(), &[("_class_name", serde_json::json!("StableDiffusionXLPipeline"))]);
    says(&["no component text_encoder_2"]);
    write_index(dir.path(), &[("text_encoder_2", serde_json::json!(["transformers", "CLIPTextModelWithProjection"]))]);
    says(&["text_encoder_2", "does not belong to a StableDiffusionPipeline"]);
    write_index(dir.path(), &[("vae", serde_json::json!(["diffusers", "AutoencoderTiny"]))]);
    says(&["component vae", "AutoencoderTiny", "expected AutoencoderKL"]);
    write_index(dir.path(), &[("vae", serde_json::json!([null, null]))]);
    says(&["no component vae"]);
    write_index(dir.path(), &[]);
    std::fs::rename(dir.path().join("vae"), dir.path().join("v")).unwrap();
    says(&["no component folder vae/", "download the whole model again"]);
    std::fs::rename(dir.path().join("v"), dir.path().join("vae")).unwrap();
    support::make_tiny_unet(&dir.path().join("unet"));
    says(&["unet/config.json", "`cross_attention_dim` is 12", "32, the hidden_size of the text encoder"]);
    std::fs::remove_file(dir.path().join("model_index.json")).unwrap();
    says(&["has no model_index.json"]);
    let single = dir.path().join("unet").join(WEIGHTS);
    let error = ModelFolder::open(&single).unwrap_err().to_string();
    assert!(error.contains("this is a UNet or VAE in diffusers' names"), "{error}");
}
