//! SDXL and SD2.1-v: conditioning and pictures against Python diffusers (golden/make_families.py), and what is refused.

use crate::support::{self, diffpref, furthest, rgb};
use assert_cmd::Command;
use image::RgbImage;
use pipelines::families::{EmptySide, ModelFolder};
use pipelines::models::VaeConfig;
use pipelines::schedulers::PredictionType;
use pipelines::weights::{LoadOptions, TensorFile};
use pipelines::{Conditioning, Levels};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// No channel of any pixel may be further off: float32 sums in another order, rounded to bytes.
const LEVELS: i32 = 2;
/// Embeddings are of the order of 1.
const EMBEDS: f64 = 1e-4;

fn golden() -> PathBuf {
    support::golden("families")
}

fn open(model: &str) -> ModelFolder {
    ModelFolder::open(&golden().join(model)).unwrap()
}

fn cases() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden().join("cases.json")).unwrap()).unwrap()
}

/// `diffpref generate` with the options of a golden case into `out`.
fn generate(model: &Path, case: &Value, out: &Path) -> Command {
    let mut command = diffpref();
    command.args(["generate", "--scheduler", "ddim", "--steps", "10", "--seed", "5", "--device", "cpu"]);
    command.arg("--model").arg(model).arg("--out").arg(out);
    for (key, value) in case.as_object().unwrap() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        command.arg(format!("--{}={value}", key.replace('_', "-")));
    }
    command
}

fn assert_paints_as_diffusers(model: &str) {
    let mut worst = 0;
    for (name, case) in cases()["cases"][model].as_object().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        generate(&golden().join(model), case, dir.path()).assert().success();
        let ours = rgb(&dir.path().join("000000-00.png"));
        let levels = furthest(&ours, &rgb(&golden().join(format!("{model}-{name}.png"))));
        assert!(levels <= LEVELS, "{model}, {name}: {levels} levels");
        worst = worst.max(levels);
    }
    println!("{model}: at most {worst} levels");
}

#[test]
fn pictures_of_sdxl_are_those_of_diffusers() {
    assert_paints_as_diffusers("sdxl");
}

#[test]
fn pictures_of_sd21_with_velocity_are_those_of_diffusers() {
    assert_paints_as_diffusers("sd21");
}

#[test]
fn golden_pictures_differ_where_options_do() {
    let pictures: Vec<RgbImage> =
        ["sdxl-plain", "sdxl-encoded", "sdxl-negative", "sdxl-long", "sd21-plain", "sd21-skip"]
            .map(|name| rgb(&golden().join(format!("{name}.png"))))
            .into();
    for (i, a) in pictures.iter().enumerate() {
        for b in &pictures[..i] {
            assert!(furthest(a, b) > 10 * LEVELS, "{}", furthest(a, b));
        }
    }
}

/// The largest difference between a golden tensor and ours.
fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    (ours - theirs).abs().max().double_value(&[])
}

fn assert_encodes_as_diffusers(model: &str) {
    let file = TensorFile::open(&golden().join("embeds.safetensors")).unwrap();
    let text = open(model).load_text(&LoadOptions::cpu()).unwrap();
    let prompts = cases()["prompts"].clone();
    let prompts: Vec<&str> = prompts.as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    for skip in [0, 1] {
        let told = text.encode_prompts(&prompts, skip, None).unwrap();
        assert!(told.get("time_ids").is_none());
        // The golden file has every fourth position.
        let every_fourth = told.get("prompt_embeds").unwrap().slice(1, 0, None::<i64>, 4);
        let theirs = file.tensor(&format!("{model}.{skip}.prompt_embeds")).unwrap();
        let embeds = difference(&every_fourth, &theirs);
        assert!(embeds < EMBEDS, "{model}, clip_skip {skip}: {embeds}");
        let pooled = told
            .get("pooled_prompt_embeds")
            .map(|pooled| difference(pooled, &file.tensor(&format!("{model}.{skip}.pooled")).unwrap()));
        assert!(pooled.is_none_or(|pooled| pooled < EMBEDS), "{model}, clip_skip {skip}: pooled {pooled:?}");
        assert_eq!(pooled.is_some(), model == "sdxl");
        println!("{model}, clip_skip {skip}: embeddings differ by {embeds:.2e}, pooled by {pooled:.2?}");
    }
    let long = text.tokens_cut(prompts[4]).unwrap();
    assert!(long > 0 && text.tokens_cut(prompts[0]).unwrap() == 0);
}

#[test]
fn conditioning_of_sdxl_is_that_of_diffusers_for_empty_unicode_and_overlong_prompts() {
    assert_encodes_as_diffusers("sdxl");
}

#[test]
fn conditioning_of_sd21_is_that_of_diffusers_for_empty_unicode_and_overlong_prompts() {
    assert_encodes_as_diffusers("sd21");
}

#[test]
fn families_are_told_apart_and_say_what_they_are() {
    let (sdxl, sd21) = (open("sdxl"), open("sd21"));
    let names = [sdxl.family().name(), sd21.family().name()];
    assert_eq!(names, ["Stable Diffusion XL", "Stable Diffusion 1"], "the width of SD2 is 1024");
    assert_eq!((sdxl.family().guidance_scale(), sd21.family().guidance_scale()), (5.0, 7.5));
    assert_eq!((sdxl.empty_side(), sd21.empty_side()), (EmptySide::Zeros, EmptySide::Encoded));
    assert!(sdxl.family().tells_sizes() && !sd21.family().tells_sizes());
    let parts: Vec<&str> = sdxl.weight_files().iter().map(|(part, _)| *part).collect();
    assert_eq!(parts, ["text_encoder", "text_encoder_2", "unet", "vae"]);
    let mut velocity = open("sdxl");
    velocity.override_noise_process(Some(PredictionType::VPrediction), Some(true)).unwrap();
    assert_eq!(velocity.family().name(), "Stable Diffusion XL (v-prediction)");
    assert!(velocity.family().lora_header().contains(&("modelspec.prediction_type", "v")));
}

#[test]
fn an_overridden_noise_process_is_used_and_written() {
    let mut folder = open("sdxl");
    folder.override_noise_process(Some(PredictionType::VPrediction), Some(true)).unwrap();
    let denoiser = folder.load_denoiser(None, &LoadOptions::cpu()).unwrap();
    let process = &denoiser.process;
    let last = Levels::new(&[process.range().last()]);
    assert_eq!(process.error_factor(&last).double_value(&[0]), 0.0);
    // At the end the noisy latents are the noise itself, and the target is the picture: everything stays finite.
    let latents = Tensor::randn([1, 4, 16, 16], (Kind::Float, Device::Cpu));
    let noise = Tensor::randn([1, 4, 16, 16], (Kind::Float, Device::Cpu));
    assert!(process.add_noise(&latents, &noise, &last).equal(&noise));
    assert!(process.target(&latents, &noise, &last).equal(&-&latents));
    let dir = tempfile::tempdir().unwrap();
    folder.copy_without_network(dir.path()).unwrap();
    let read =
        |file: &str| -> Value { serde_json::from_slice(&std::fs::read(dir.path().join(file)).unwrap()).unwrap() };
    let scheduler = read("scheduler/scheduler_config.json");
    assert_eq!(scheduler["prediction_type"], "v_prediction");
    assert_eq!(scheduler["rescale_betas_zero_snr"], true);
    assert_eq!(scheduler["_class_name"], "EulerDiscreteScheduler");
    let index = read("model_index.json");
    assert_eq!(index["_class_name"], "StableDiffusionXLPipeline");
    assert_eq!(index["text_encoder_2"], json!(["transformers", "CLIPTextModelWithProjection"]));
    assert_eq!(index["force_zeros_for_empty_prompt"], true);
    assert!(index.get("requires_safety_checker").is_none(), "SDXL's pipeline has no such option");
    assert!(dir.path().join("tokenizer_2/merges.txt").is_file());
    let refused = folder.override_noise_process(Some(PredictionType::Epsilon), None).unwrap_err().to_string();
    assert!(refused.starts_with("epsilon prediction with zero terminal SNR"), "{refused}");
}

#[test]
fn the_scheduler_of_sdxl_is_taken_as_its_file_states_it() {
    let read = |model: &str, key: &str, value: Value| {
        let dir = tempfile::tempdir().unwrap();
        support::copy(&golden().join(model), dir.path());
        change(&dir.path().join("scheduler/scheduler_config.json"), key, value);
        let folder = ModelFolder::open(dir.path()).unwrap();
        (folder.scheduler().steps_offset, folder.scheduler().clip_sample)
    };
    // Stable Diffusion's pipeline makes them 1 and false when it is put together, SDXL's leaves them.
    assert_eq!(read("sd21", "steps_offset", json!(0)), (Some(1), Some(false)));
    assert_eq!(read("sdxl", "steps_offset", json!(0)), (Some(0), Some(false)));
    assert_eq!(read("sdxl", "clip_sample", Value::Null), (Some(1), Some(true)));
}

#[test]
fn epsilon_prediction_with_zero_terminal_snr_is_refused_with_the_file_that_says_it() {
    let dir = tempfile::tempdir().unwrap();
    support::copy(&golden().join("sdxl"), dir.path());
    change(&dir.path().join("scheduler/scheduler_config.json"), "rescale_betas_zero_snr", json!(true));
    let case = json!({"prompt": "a cat"});
    let assert = generate(dir.path(), &case, &dir.path().join("out")).assert().failure();
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(
        text.contains("scheduler_config.json") && text.contains("epsilon prediction with zero terminal SNR"),
        "{text}"
    );
}

#[test]
fn a_vae_is_decoded_in_float32_unless_its_config_says_that_half_precision_is_safe() {
    let kind = |force_upcast: Value, asked: Kind| {
        let dir = tempfile::tempdir().unwrap();
        support::copy(&golden().join("sdxl"), dir.path());
        change(&dir.path().join("vae/config.json"), "force_upcast", force_upcast);
        let folder = ModelFolder::open(dir.path()).unwrap();
        folder.load_vae(None, &LoadOptions { device: Device::Cpu, kind: asked }).unwrap().kind()
    };
    for half in [Kind::Half, Kind::BFloat16] {
        assert_eq!(kind(json!(true), half), Kind::Float);
        assert_eq!(kind(Value::Null, half), Kind::Float, "absent counts as true, as in diffusers");
        assert_eq!(kind(json!(false), half), half);
    }
    assert_eq!(kind(json!(true), Kind::Double), Kind::Double);
    assert!(VaeConfig::read(&golden().join("sdxl/vae")).unwrap().force_upcast);
}

#[test]
fn time_ids_keep_their_values_where_embeddings_are_bfloat16() {
    let denoiser = open("sdxl").load_denoiser(None, &LoadOptions::cpu()).unwrap();
    let prompt = Conditioning::of_prompt(Tensor::ones([2, 3, 40], (Kind::Float, Device::Cpu)));
    let told = denoiser.with_size(prompt.shallow_clone(), 1023, 767).to(Device::Cpu, Kind::BFloat16);
    assert_eq!(told.get("prompt_embeds").unwrap().kind(), Kind::BFloat16);
    let ids = Vec::<f32>::try_from(told.get("time_ids").unwrap().view(-1)).unwrap();
    assert_eq!(ids, [1023.0, 767.0, 0.0, 0.0, 1023.0, 767.0].repeat(2));
    let plain = open("sd21").load_denoiser(None, &LoadOptions::cpu()).unwrap();
    assert!(plain.with_size(prompt, 64, 64).get("time_ids").is_none());
}

/// Sets a key of a JSON file; null removes it.
fn change(file: &Path, key: &str, value: Value) {
    let mut json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    match value {
        Value::Null => drop(json.as_object_mut().unwrap().remove(key)),
        value => json[key] = value,
    }
    std::fs::write(file, json.to_string()).unwrap();
}

/// What is said of a copy of `model` with a key of one file changed.
fn refused(model: &str, file: &str, key: &str, value: Value) -> String {
    let dir = tempfile::tempdir().unwrap();
    support::copy(&golden().join(model), dir.path());
    change(&dir.path().join(file), key, value);
    let error = ModelFolder::open(dir.path()).unwrap_err().to_string();
    error.replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn relatives_of_the_families_are_refused_by_name() {
    let class = |value: &str| refused("sdxl", "model_index.json", "_class_name", json!(value));
    assert!(class("StableDiffusionXLInpaintPipeline").contains("this is an inpainting model, which is not supported"));
    assert!(class("StableDiffusionXLInstructPix2PixPipeline").contains("InstructPix2Pix"));
    let dir = tempfile::tempdir().unwrap();
    support::copy(&golden().join("sdxl"), dir.path());
    let index = dir.path().join("model_index.json");
    change(&index, "_class_name", json!("StableDiffusionXLImg2ImgPipeline"));
    let plain = ModelFolder::open(dir.path()).unwrap_err().to_string();
    assert!(plain.contains("the pipeline class StableDiffusionXLImg2ImgPipeline is not supported"), "{plain}");
    change(&index, "text_encoder", json!([null, null]));
    let refiner = ModelFolder::open(dir.path()).unwrap_err().to_string();
    assert!(refiner.contains("this is the SDXL refiner"), "{refiner}");
    let unet = |key: &str, value: Value| refused("sdxl", "unet/config.json", key, value);
    let inpaint = unet("in_channels", json!(9));
    assert_eq!(
        inpaint,
        "DIR/unet/config.json: `in_channels` is 9, expected 4, the latent_channels of the VAE: this is an inpainting \
         model, which is not supported"
    );
    assert!(unet("in_channels", json!(8)).contains("this is InstructPix2Pix"));
    let distilled = unet("reverse_transformer_layers_per_block", json!([[4, 4, 10], [2, 1, 1], 1]));
    assert!(distilled.contains("a distilled SDXL (SSD-1B, Segmind Vega, KOALA)"), "{distilled}");
    assert!(unet("time_cond_proj_dim", json!(256)).contains("latent consistency"));
}

#[test]
fn components_that_do_not_fit_together_are_named_with_both_sides() {
    let unet = |key: &str, value: Value| refused("sdxl", "unet/config.json", key, value);
    assert_eq!(
        unet("cross_attention_dim", json!(24)),
        "DIR/unet/config.json: `cross_attention_dim` is 24, expected 40, the hidden sizes of the text encoders (16 + 24) together"
    );
    assert!(unet("addition_embed_type", Value::Null).contains("expected \"text_time\", as every SDXL UNet has it"));
    let pooled = unet("projection_class_embeddings_input_dim", json!(40));
    assert!(pooled.contains("is 40, expected 36: the pooled embedding's 12 and 6 time_ids of 4"), "{pooled}");
    let projection = refused("sdxl", "text_encoder_2/config.json", "architectures", json!(["CLIPTextModel"]));
    assert!(projection.contains("expected [\"CLIPTextModelWithProjection\"]"), "{projection}");
    let absent = refused("sdxl", "model_index.json", "text_encoder_2", Value::Null);
    assert!(absent.contains("DIR has no component text_encoder_2 in model_index.json"), "{absent}");
    let swapped = refused("sdxl", "model_index.json", "text_encoder_2", json!(["transformers", "CLIPTextModel"]));
    assert!(swapped.contains("text_encoder_2 is a CLIPTextModel, expected CLIPTextModelWithProjection"), "{swapped}");
    let zeros = refused("sdxl", "model_index.json", "force_zeros_for_empty_prompt", json!("yes"));
    assert!(zeros.contains("`force_zeros_for_empty_prompt` is \"yes\", expected true or false"), "{zeros}");
    let second = refused("sd21", "model_index.json", "text_encoder_2", json!(["transformers", "CLIPTextModel"]));
    assert!(second.contains("its component text_encoder_2 does not belong to a StableDiffusionPipeline"), "{second}");
    let sdxl = refused("sdxl", "model_index.json", "_class_name", json!("StableDiffusionPipeline"));
    assert!(sdxl.contains("text_encoder_2"), "{sdxl}");
}

#[test]
fn tokenizers_of_different_length_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    support::copy(&golden().join("sdxl"), dir.path());
    change(&dir.path().join("tokenizer_2/tokenizer_config.json"), "model_max_length", json!(40));
    let error = ModelFolder::open(dir.path()).unwrap().load_text(&LoadOptions::cpu()).err().unwrap().to_string();
    assert!(error.contains("pads prompts to 77 tokens, another to 40"), "{error}");
}

#[test]
fn more_skipped_layers_than_there_are_exit_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let case = json!({"prompt": "a cat", "clip_skip": 2});
    let assert = generate(&golden().join("sdxl"), &case, &dir.path().join("out")).assert().failure().code(2);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(text.contains("--clip-skip 2: expected 0 to 1 for this model's text encoders"), "{text}");
    assert!(!dir.path().join("out").exists());
}
