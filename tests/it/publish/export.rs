//! `diffpref export`: models and LoRAs through every format and back, and what is refused.

use crate::support::{furthest, golden};
use assert_cmd::Command;
use image::RgbImage;
use pipelines::families::ModelFolder;
use pipelines::lora::{Lora, Network};
use pipelines::weights::{LoadOptions, TensorFile, WeightStore, write_safetensors};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// No channel of any pixel may be further off: float32 sums in another order, rounded to bytes.
const LEVELS: i32 = 2;
/// Tiny models beside their golden pictures: SD1, SDXL, and an SD2 that predicts velocity.
const MODELS: [&str; 3] = ["generate/model", "families/sdxl", "families/sd21"];
const LORA: &str = "generate/lora.safetensors";

fn diffpref(command: &str, arguments: &[&str]) -> Command {
    let mut diffpref = Command::cargo_bin("diffpref").unwrap();
    diffpref.arg(command).args(arguments).env("HOME", env!("CARGO_TARGET_TMPDIR")).env("OMP_NUM_THREADS", "1");
    diffpref
}

fn export(model: Option<&Path>, format: &str, out: &Path, more: &[&str]) -> Command {
    let mut command = diffpref("export", &["--format", format]);
    command.arg("--out").arg(out).args(more);
    if let Some(model) = model {
        command.arg("--model").arg(model);
    }
    command
}

fn refused(command: &mut Command, code: i32) -> String {
    let assert = command.assert().failure().code(code);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(!text.contains("panicked") && !text.contains("internal error"), "{text}");
    text
}

fn paint(model: &Path, out: &Path, more: &[&str]) -> RgbImage {
    let common = ["--scheduler", "ddim", "--steps", "5", "--seed", "5", "--device", "cpu", "--prompt", "a black cat!"];
    let mut command = diffpref("generate", &common);
    command.arg("--model").arg(model).arg("--out").arg(out).args(more).assert().success();
    image::open(out.join("000000-00.png")).unwrap().to_rgb8()
}

/// All tensors of a model folder by component and name.
fn tensors(folder: &Path) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    for part in ["unet", "vae", "text_encoder", "text_encoder_2"] {
        let stem = if part.starts_with("text") { "model" } else { "diffusion_pytorch_model" };
        if folder.join(part).is_dir() {
            let store = WeightStore::open_component(&folder.join(part), stem).unwrap();
            for name in store.names() {
                // transformers from 5.6 on leaves the prefix out; we write it.
                let prefix = part == "text_encoder" && !name.starts_with("text_model.");
                let full = format!("{part}.{}{name}", if prefix { "text_model." } else { "" });
                tensors.insert(full, store.tensor(name).unwrap());
            }
        }
    }
    tensors
}

fn assert_same(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, tensor) in a {
        assert!(tensor.kind() == b[name].kind() && tensor.equal(&b[name]), "{name}");
    }
}

#[test]
fn a_model_goes_through_one_file_and_back_with_the_same_tensors_and_paints_the_same_picture() {
    let dir = tempfile::tempdir().unwrap();
    for (i, model) in MODELS.map(golden).iter().enumerate() {
        let (file, back) = (dir.path().join(format!("{i}.safetensors")), dir.path().join(format!("back-{i}")));
        export(Some(model), "checkpoint", &file, &[]).assert().success();
        export(Some(&file), "diffusers", &back, &[]).assert().success();
        assert_same(&tensors(model), &tensors(&back));
        let (there, here) = (ModelFolder::open(model).unwrap(), ModelFolder::open(&file).unwrap());
        assert_eq!(there.scheduler().to_json(), here.scheduler().to_json());
        assert_eq!(there.network().file().to_json(), here.network().file().to_json());
        let original = paint(model, &dir.path().join(format!("pictures-{i}")), &[]);
        for (name, copy) in [("file", &file), ("folder", &back)] {
            let picture = paint(copy, &dir.path().join(format!("pictures-{i}-{name}")), &[]);
            assert_eq!(furthest(&original, &picture), 0, "{} as a {name}", model.display());
        }
        // The same tensors give the same bytes, but for the moment in the header.
        let again = dir.path().join(format!("again-{i}.safetensors"));
        export(Some(&back), "checkpoint", &again, &["--title", &i.to_string()]).assert().success();
        let (a, b) = (std::fs::read(&file).unwrap(), std::fs::read(&again).unwrap());
        assert!(a.len().abs_diff(b.len()) < 4096 && a[a.len() - 50_000..] == b[b.len() - 50_000..]);
    }
}

#[test]
fn a_file_says_what_it_is_to_other_programs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("style.safetensors");
    export(
        Some(&golden("families/sdxl")),
        "checkpoint",
        &file,
        &["--prediction-type", "v_prediction", "--zero-terminal-snr", "true"],
    )
    .assert()
    .success();
    let written = TensorFile::open(&file).unwrap();
    let header = |key: &str| written.metadata().get(key).map(String::as_str);
    assert_eq!(header("modelspec.architecture"), Some("stable-diffusion-xl-v1-base"));
    assert_eq!((header("modelspec.title"), header("modelspec.prediction_type")), (Some("style"), Some("v")));
    assert_eq!((header("format"), header("modelspec.sai_model_spec")), (Some("pt"), Some("1.0.1")));
    for marker in ["v_pred", "ztsnr"] {
        assert_eq!((written.shape(marker), written.kind(marker)), (Some(&[0][..]), Some(Kind::Float)));
    }
    // Fused projections, a transposed one, and the VAE's attention as convolutions: what ComfyUI and A1111 look for.
    let shape = |name: &str| written.shape(name).unwrap_or_else(|| panic!("{name} is missing")).len();
    assert_eq!(shape("conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"), 2);
    assert_eq!(shape("conditioner.embedders.1.model.text_projection"), 2);
    assert_eq!(shape("conditioner.embedders.0.transformer.text_model.final_layer_norm.weight"), 1);
    assert_eq!(shape("first_stage_model.decoder.mid.attn_1.q.weight"), 4);
    assert_eq!(shape("model.diffusion_model.label_emb.0.0.weight"), 2);
    let folder = ModelFolder::open(&file).unwrap();
    assert_eq!(folder.family().name(), "Stable Diffusion XL (v-prediction)");
    assert!(folder.scheduler().rescale_betas_zero_snr);
}

#[test]
fn weights_are_rounded_once_to_the_kind_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden(MODELS[0]);
    let wide = dir.path().join("wide");
    export(Some(&model), "diffusers", &wide, &["--dtype", "float32"]).assert().success();
    let exact = tensors(&wide);
    for (dtype, kind) in [("float16", Kind::Half), ("bfloat16", Kind::BFloat16)] {
        let (file, back) = (dir.path().join(format!("{dtype}.safetensors")), dir.path().join(dtype));
        export(Some(&wide), "checkpoint", &file, &["--dtype", dtype]).assert().success();
        export(Some(&file), "diffusers", &back, &[]).assert().success();
        for (name, tensor) in tensors(&back) {
            assert!(tensor.equal(&exact[&name].to_kind(kind)), "{dtype} {name}");
        }
    }
}

#[test]
fn a_merged_lora_paints_what_the_worn_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let (model, lora) = (golden(MODELS[0]), format!("{}:0.5", golden(LORA).display()));
    let worn = paint(&model, &dir.path().join("worn"), &["--lora", &lora]);
    let plain = paint(&model, &dir.path().join("plain"), &[]);
    assert!(furthest(&worn, &plain) > 10 * LEVELS);
    for format in ["diffusers", "checkpoint"] {
        let out = dir.path().join(if format == "diffusers" { "merged" } else { "merged.safetensors" });
        export(Some(&model), format, &out, &["--lora", &lora, "--dtype", "float32"]).assert().success();
        let merged = paint(&out, &dir.path().join(format!("pictures-{format}")), &[]);
        assert!(furthest(&worn, &merged) <= LEVELS, "{format}: {}", furthest(&worn, &merged));
    }
}

#[test]
fn a_lora_on_the_projection_of_the_second_text_encoder_is_merged() {
    let dir = tempfile::tempdir().unwrap();
    let (model, file) = (golden("families/sdxl"), dir.path().join("lora.safetensors"));
    let before = tensors(&model);
    let projection = "text_encoder_2.text_projection.weight";
    let weight = &before[projection];
    let (rows, columns) = weight.size2().unwrap();
    let wave = |shape: &[i64]| {
        (Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, tch::Device::Cpu)) * 0.37).sin().reshape(shape)
    };
    let (a, b) = (wave(&[2, columns]), wave(&[rows, 2]));
    let names = ["A", "B"].map(|part| format!("text_encoder_2.text_projection.lora_{part}.weight"));
    let [name_a, name_b] = names;
    write_safetensors(&file, &[(name_a, a.copy()), (name_b, b.copy())], &[("format", "pt")]).unwrap();
    let out = dir.path().join("out");
    let mut command = diffpref("merge", &["lora", "--dtype", "float32", "--base"]);
    command.arg(&model).arg("--lora").arg(&file).arg("--out").arg(&out).assert().success();
    let after = tensors(&out);
    let expected = weight + b.matmul(&a);
    assert!(after[projection].allclose(&expected, 1e-6, 1e-6, false));
    assert!(after.iter().all(|(name, tensor)| name == projection || tensor.equal(&before[name])));
}

/// A LoRA over every layer of a model, text encoders included, with its own rank and scale for convolutions.
fn whole_lora(model: &Path, out: &Path) -> Lora {
    let folder = ModelFolder::open(model).unwrap();
    let mut tensors = Vec::new();
    let (mut seed, random) = (0.0_f64, |seed: f64, shape: &[i64]| {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Float, tch::Device::Cpu)) * (0.37 + seed)).sin().reshape(shape) * 0.05
    });
    let text = folder.text().iter().map(pipelines::models::ClipTextModel::layer_shapes).collect::<Vec<_>>();
    let unet = folder.network().layer_shapes();
    let networks = [("unet", &unet)].into_iter().chain(["text_encoder", "text_encoder_2"].into_iter().zip(&text));
    for (network, layers) in networks {
        for (path, shape) in layers {
            seed += 0.01;
            let rank = if shape.len() == 4 { 2 } else { 3 };
            let (a, b) = match shape[..] {
                [output, input, h, w] => (vec![rank, input, h, w], vec![output, rank, 1, 1]),
                _ => (vec![rank, shape[1]], vec![shape[0], rank]),
            };
            tensors.push((format!("{network}.{path}.lora_A.weight"), random(seed, &a)));
            tensors.push((format!("{network}.{path}.lora_B.weight"), random(seed + 0.5, &b)));
        }
    }
    let metadata = r#"{"unet.lora_alpha": 6, "unet.r": 3, "text_encoder.lora_alpha": 1.5, "text_encoder.r": 3}"#;
    write_safetensors(out, &tensors, &[("format", "pt"), ("lora_adapter_metadata", metadata)]).unwrap();
    Lora::read(out, &folder.lora_targets()).unwrap()
}

fn assert_same_lora(a: &Lora, b: &Lora) {
    assert_eq!(a.networks().map(|(n, _)| n).collect::<Vec<_>>(), b.networks().map(|(n, _)| n).collect::<Vec<_>>());
    for (network, weights) in a.networks() {
        let other = &b.network(network).unwrap().modules;
        assert_eq!(weights.modules.len(), other.len());
        for (path, module) in &weights.modules {
            let (found, rank) = (&other[path], module.rank() as f64);
            assert!(module.a.equal(&found.a) && module.b.equal(&found.b), "{path}");
            // alpha is a float32 in kohya's files.
            assert!((module.scale - found.scale).abs() < 1e-6 * rank, "{path}: {} {}", module.scale, found.scale);
        }
    }
}

#[test]
fn a_lora_goes_through_both_namings_with_the_same_tensors_and_acts_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (i, model) in MODELS.map(golden).iter().enumerate() {
        let at = |name: &str| dir.path().join(format!("{i}-{name}"));
        let lora = whole_lora(model, &at("lora.safetensors"));
        let lora_file = at("lora.safetensors").display().to_string();
        let (kohya, peft) = (at("kohya.safetensors"), at("peft.safetensors"));
        export(Some(model), "lora-kohya", &kohya, &["--lora", &lora_file]).assert().success();
        export(Some(model), "lora-peft", &peft, &["--lora", kohya.to_str().unwrap()]).assert().success();
        let targets = ModelFolder::open(model).unwrap().lora_targets();
        for file in [&kohya, &peft] {
            assert_same_lora(&lora, &Lora::read(file, &targets).unwrap());
        }
        let worn = paint(model, &at("worn"), &["--lora", &lora_file]);
        assert!(furthest(&worn, &paint(model, &at("plain"), &[])) > 10 * LEVELS);
        let other = format!("{}:1.0", kohya.display());
        assert_eq!(furthest(&worn, &paint(model, &at("worn-kohya"), &["--lora", &other])), 0);
        export(Some(model), "checkpoint", &at("merged.safetensors"), &["--lora", &other, "--dtype", "float32"])
            .assert()
            .success();
        let merged = paint(&at("merged.safetensors"), &at("pictures"), &[]);
        assert!(furthest(&worn, &merged) <= LEVELS, "{}: {}", model.display(), furthest(&worn, &merged));
    }
}

#[test]
fn a_kohya_file_of_sdxl_has_the_names_and_the_header_of_other_programs() {
    let dir = tempfile::tempdir().unwrap();
    let (lora, out) = (dir.path().join("lora.safetensors"), dir.path().join("mystyle.safetensors"));
    whole_lora(&golden("families/sdxl"), &lora);
    export(
        Some(&golden("families/sdxl")),
        "lora-kohya",
        &out,
        &["--lora", lora.to_str().unwrap(), "--dtype", "float16"],
    )
    .assert()
    .success();
    let file = TensorFile::open(&out).unwrap();
    let header = |key: &str| file.metadata().get(key).map(String::as_str);
    assert_eq!(header("ss_base_model_version"), Some("sdxl_base_v1-0"));
    assert_eq!((header("ss_network_module"), header("ss_output_name")), (Some("networks.lora"), Some("mystyle")));
    assert_eq!((header("ss_network_dim"), header("ss_network_alpha")), (Some("3"), Some("6")));
    assert!(file.names().all(|name| ["lora_unet_", "lora_te1_", "lora_te2_"].iter().any(|p| name.starts_with(p))));
    for name in [
        "lora_unet_input_blocks_0_0.lora_down.weight",
        "lora_unet_label_emb_0_0.lora_up.weight",
        "lora_unet_middle_block_0_in_layers_2.lora_down.weight",
        "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
        "lora_unet_middle_block_1_transformer_blocks_0_ff_net_0_proj.alpha",
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
    ] {
        assert!(file.shape(name).is_some(), "{name} is missing");
    }
    let part = |name: &str| file.kind(&format!("lora_te1_text_model_encoder_layers_0_mlp_fc1.{name}"));
    assert_eq!((part("lora_up.weight"), part("alpha")), (Some(Kind::Half), Some(Kind::Float)));
}

#[test]
fn a_lora_of_a_familys_usual_shape_needs_no_model() {
    let dir = tempfile::tempdir().unwrap();
    let (peft, kohya) = (dir.path().join("peft.safetensors"), dir.path().join("kohya.safetensors"));
    let path = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k";
    let weights = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, tch::Device::Cpu));
    for (width, channels, name, version) in [
        (768, 640, "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", "sd_v1"),
        (1024, 640, "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", "sd_v2"),
        (2048, 640, "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", "sdxl_base_v1-0"),
    ] {
        let tensors = [
            (format!("unet.{path}.lora_A.weight"), weights([4, width])),
            (format!("unet.{path}.lora_B.weight"), weights([channels, 4])),
        ];
        write_safetensors(&peft, &tensors, &[]).unwrap();
        let scaled = format!("{}:0.5", peft.display());
        export(None, "lora-kohya", &kohya, &["--lora", &scaled]).assert().success();
        let file = TensorFile::open(&kohya).unwrap();
        assert_eq!(file.tensor(&format!("{name}.alpha")).unwrap().double_value(&[]), 2.0);
        assert_eq!(file.metadata().get("ss_base_model_version").map(String::as_str), Some(version));
        std::fs::remove_file(&kohya).unwrap();
    }
    write_safetensors(&peft, &[("unet.x.lora_A.weight".into(), weights([4, 4]))], &[]).unwrap();
    let message = refused(&mut export(None, "lora-kohya", &kohya, &["--lora", peft.to_str().unwrap()]), 1);
    assert!(message.contains("cannot be told") && message.contains("--model"), "{message}");
}

#[test]
fn what_does_not_go_together_is_refused_and_nothing_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (model, lora) = (golden(MODELS[0]), golden(LORA).display().to_string());
    let out = dir.path().join("out.safetensors");
    let says = |command: &mut Command, code, parts: &[&str]| {
        let message = refused(command, code);
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
    };
    says(&mut export(Some(&model), "checkpoint", &dir.path().join("x.ckpt"), &[]), 2, &["ends in .safetensors"]);
    says(&mut export(Some(&model), "diffusers", &out, &[]), 2, &["expected a folder"]);
    says(&mut export(None, "checkpoint", &out, &[]), 2, &["--model is missing"]);
    says(&mut export(Some(&model), "lora-peft", &out, &[]), 2, &["--lora is missing"]);
    says(&mut export(Some(&model), "lora-peft", &out, &["--lora", &lora, "--vae", "x"]), 2, &["for models"]);
    says(&mut export(Some(&model), "checkpoint", &out, &["--dtype", "int8"]), 2, &["float16"]);
    says(&mut export(Some(&dir.path().join("none/at/all")), "checkpoint", &out, &[]), 1, &["no such file or folder"]);
    says(&mut export(Some(&model), "checkpoint", &out, &["--revision", "main"]), 1, &["is for hub ids"]);
    says(&mut export(Some(&model), "checkpoint", &out, &["--variant", "fp8"]), 1, &["fp8", "leave the variant out"]);
    says(
        &mut export(Some(&golden("families/sdxl")), "checkpoint", &out, &["--lora", &lora]),
        1,
        &["another architecture"],
    );
    assert!(!out.exists());
    std::fs::write(&out, "precious").unwrap();
    says(&mut export(Some(&model), "checkpoint", &out, &[]), 2, &["exists already"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");
}

#[test]
fn weights_that_do_not_fit_the_kind_are_refused_and_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden(MODELS[0]);
    let folder = ModelFolder::open(&model).unwrap();
    let unet = folder.load_denoiser(None, &LoadOptions::cpu()).unwrap().network;
    let large = [("conv_in.bias".to_string(), Tensor::full([16], 1e6, (Kind::Float, tch::Device::Cpu)))];
    unet.save(&dir.path().join("unet"), Kind::Float, Some(&large)).unwrap();
    let (unet, out) = (dir.path().join("unet").display().to_string(), dir.path().join("out.safetensors"));
    let message = refused(&mut export(Some(&model), "checkpoint", &out, &["--unet", &unet, "--dtype", "float16"]), 1);
    assert!(message.contains("unet conv_in.bias") && message.contains("write bfloat16 or float32"), "{message}");
    assert!(!out.exists());
    export(Some(&model), "checkpoint", &out, &["--unet", &unet]).assert().success();
    let written = TensorFile::open(&out).unwrap().tensor("model.diffusion_model.input_blocks.0.0.bias").unwrap();
    assert_eq!(written.double_value(&[0]), 1e6);
    assert_eq!(Network::Unet.name(), "unet");
}

#[test]
fn a_vae_comes_from_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (sd, whole) = (golden(MODELS[0]), dir.path().join("whole.safetensors"));
    export(Some(&sd), "checkpoint", &whole, &["--dtype", "float32"]).assert().success();
    let file = TensorFile::open(&whole).unwrap();
    let vae = file.names().filter_map(|name| Some((name.strip_prefix("first_stage_model.")?.to_string(), name)));
    let halved: Vec<_> = vae.map(|(short, name)| (short, file.tensor(name).unwrap() * 0.5)).collect();
    let (path, out) = (dir.path().join("vae.safetensors"), dir.path().join("out"));
    write_safetensors(&path, &halved, &[]).unwrap();
    export(Some(&sd), "diffusers", &out, &["--vae", path.to_str().unwrap(), "--dtype", "float32"]).assert().success();
    let (before, after) = (tensors(&sd), tensors(&out));
    for (name, tensor) in after.iter().filter(|(name, _)| name.starts_with("vae.")) {
        assert!(tensor.equal(&(before[name].to_kind(Kind::Float) * 0.5)), "{name}");
    }
}
