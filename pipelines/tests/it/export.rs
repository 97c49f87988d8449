//! Checkpoints of Stable Diffusion 2: OpenCLIP's fused projections, and what other programs expect beside the model.

use crate::support;
use pipelines::families::{Export, Labels, ModelFolder};
use pipelines::lora::Lora;
use pipelines::models::{ClipTextConfig, ClipTextModel};
use pipelines::weights::{LoadOptions, TensorFile, write_safetensors};
use serde_json::json;
use std::path::Path;
use tch::{Kind, Tensor};

const PREFIX: &str = "cond_stage_model.model.";

fn write(path: &Path, text: &serde_json::Value) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text.to_string()).unwrap();
}

const VELOCITY: &str = "Stable Diffusion 2 (v-prediction)";

/// An SD2 that predicts velocity: the widths by which the family is told, everything else small.
fn make_model(dir: &Path) {
    support::make_tiny_unet(&dir.join("unet"));
    let unet = std::fs::read_to_string(dir.join("unet/config.json")).unwrap();
    let mut unet: serde_json::Value = serde_json::from_str(&unet).unwrap();
    unet["cross_attention_dim"] = json!(1024);
    write(&dir.join("unet/config.json"), &unet);
    let weights = dir.join("unet/diffusion_pytorch_model.safetensors");
    write_safetensors(&weights, &support::drawn(&support::shapes("unet", &dir.join("unet"))), &[]).unwrap();
    support::make_component("vae_sd", &dir.join("vae"));
    let text = json!({"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "gelu",
        "hidden_size": 1024, "intermediate_size": 8, "num_attention_heads": 16, "num_hidden_layers": 2,
        "max_position_embeddings": 16, "vocab_size": 300, "eos_token_id": 2});
    write(&dir.join("text_encoder/config.json"), &text);
    let shapes = ClipTextModel::parameter_shapes(&ClipTextConfig::read(&dir.join("text_encoder")).unwrap());
    write_safetensors(&dir.join("text_encoder/model.safetensors"), &support::drawn(&shapes), &[]).unwrap();
    write(&dir.join("tokenizer/tokenizer_config.json"), &json!({"pad_token": "!"}));
    let scheduler = json!({"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "steps_offset": 1, "clip_sample": false});
    write(&dir.join("scheduler/scheduler_config.json"), &scheduler);
    let part = |library: &str, class: &str| json!([library, class]);
    let index = json!({"_class_name": "StableDiffusionPipeline", "scheduler": part("diffusers", "DDIMScheduler"),
        "text_encoder": part("transformers", "CLIPTextModel"), "tokenizer": part("transformers", "CLIPTokenizer"),
        "unet": part("diffusers", "UNet2DConditionModel"), "vae": part("diffusers", "AutoencoderKL")});
    write(&dir.join("model_index.json"), &index);
}

#[test]
fn a_checkpoint_of_sd2_has_what_a1111_looks_for_and_comes_back_with_the_same_tensors() {
    let dir = tempfile::tempdir().unwrap();
    make_model(&dir.path().join("model"));
    let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
    assert_eq!(folder.family().name(), VELOCITY);
    let path = dir.path().join("model.safetensors");
    let lora = Lora::default();
    let export = Export::open(&folder, None, None, &lora, None).unwrap();
    let labels = Labels { title: "a title".into(), date: "2026-01-31T12:00:00Z".into() };
    export.write_checkpoint(&path, &labels).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    export.write_checkpoint(&path, &labels).unwrap();
    assert!(bytes == std::fs::read(&path).unwrap(), "the same model gave other bytes");

    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.metadata()["modelspec.architecture"], "stable-diffusion-v2-768-v");
    assert_eq!(file.metadata()["modelspec.date"], "2026-01-31T12:00:00Z");
    let yaml = std::fs::read_to_string(dir.path().join("model.yaml")).unwrap();
    assert!(yaml.contains("parameterization: \"v\""));
    // One block more than the model runs, as in the published files: a copy of the last.
    let tensor = |name: &str| file.tensor(&format!("{PREFIX}{name}")).unwrap();
    for name in ["attn.in_proj_weight", "attn.in_proj_bias", "ln_1.weight", "mlp.c_fc.weight"] {
        let (last, unused) =
            (tensor(&format!("transformer.resblocks.1.{name}")), tensor(&format!("transformer.resblocks.2.{name}")));
        assert!(last.equal(&unused), "{name}");
    }
    assert_eq!((tensor("text_projection").size(), tensor("logit_scale").size()), (vec![1024, 1024], vec![]));
    // The rows of the fused projection are q, k, v in this order.
    let whole = folder.load_text(&LoadOptions::cpu());
    assert!(whole.is_err(), "this model has no vocabulary");
    let store =
        pipelines::weights::WeightStore::from_file(&dir.path().join("model/text_encoder/model.safetensors")).unwrap();
    let projections: Vec<Tensor> = ["q", "k", "v"]
        .map(|p| store.tensor(&format!("text_model.encoder.layers.1.self_attn.{p}_proj.weight")).unwrap())
        .into();
    assert!(tensor("transformer.resblocks.1.attn.in_proj_weight").equal(&Tensor::cat(&projections, 0)));

    let back = ModelFolder::open(&path).unwrap();
    assert_eq!((back.family().name(), back.scheduler().to_json()), (VELOCITY, folder.scheduler().to_json()));
    Export::open(&back, None, None, &lora, Some(Kind::Float))
        .unwrap()
        .write_folder(&dir.path().join("back"), &mut |_| {})
        .unwrap();
    for part in ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"] {
        let open = |root: &str| TensorFile::open(&dir.path().join(root).join(format!("{part}.safetensors"))).unwrap();
        let (before, after) = (open("model"), open("back"));
        assert_eq!(before.names().collect::<Vec<_>>(), after.names().collect::<Vec<_>>());
        for name in before.names() {
            assert!(before.tensor(name).unwrap().equal(&after.tensor(name).unwrap()), "{part} {name}");
        }
    }
}
