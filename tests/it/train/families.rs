//! `diffpref train` on the tiny SDXL and SD2.1-v of golden/make_families.py: figures against those that Python made
//! (golden/make_families_train.py), what a run leaves, and what is refused.

use crate::support::{self, diffpref, root};
use assert_cmd::Command;
use diffpref::painting::ModelRequest;
use diffpref::progress::Silent;
use pipelines::families::ModelFolder;
use pipelines::hub::Location;
use pipelines::lora::{Lora, Network};
use pipelines::schedulers::PredictionType;
use pipelines::weights::{LoadOptions, TensorFile};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::LazyLock;

fn golden() -> PathBuf {
    root().join("tests/golden/families_train")
}

static CASES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&std::fs::read(golden().join("cases.json")).unwrap()).unwrap());

/// A run's folder, with a cache of its own.
struct Run {
    dir: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("run").join(file)
    }

    /// `diffpref train` of the base configuration with overrides.
    fn train(&self, sets: &Value, arguments: &[&str]) -> Command {
        let mut command = diffpref();
        command.current_dir(root()).env("HOME", self.dir.path()).env("OMP_NUM_THREADS", "1");
        command.arg("train").arg(golden().join("base.toml")).args(arguments);
        let places = [("train.out", self.dir.path().join("run")), ("data.cache_dir", self.dir.path().join("cache"))];
        for (key, path) in places {
            command.arg("--set").arg(format!("{key}={}", path.display()));
        }
        for (key, value) in sets.as_object().unwrap() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command
    }

    fn metrics(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// stderr of a call that fails with exit code 2 and leaves no run behind.
    fn refused(&self, sets: &Value) -> String {
        let assert = self.train(sets, &[]).assert().failure().code(2);
        assert!(!self.dir.path().join("run").exists(), "nothing is made before the configuration is checked");
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    }
}

/// The overrides of a golden case and more of them.
fn sets(case: &str, more: Value) -> Value {
    let mut sets = CASES[case]["set"].clone();
    sets.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sets
}

/// A figure of a metrics line: `margin`, or `margin_by_t[3]`.
fn figure(line: &Value, name: &str) -> Option<f64> {
    match name.split_once('[') {
        Some((list, index)) => line[list][index.trim_end_matches(']').parse::<usize>().unwrap()].as_f64(),
        None => line[name].as_f64(),
    }
}

fn assert_trains_as_recomputed(case: &str) {
    let run = Run::new();
    run.train(&CASES[case]["set"], &[]).assert().success();
    let lines = run.metrics();
    let steps = CASES[case]["steps"].as_array().unwrap();
    assert_eq!(lines.len(), steps.len());
    let mut compared = 0;
    for (line, expected) in lines.iter().zip(steps) {
        for (name, range) in expected.as_object().unwrap() {
            let found = figure(line, name);
            let Some(range) = range.as_array() else {
                assert!(found.is_none(), "{case}, step {}: {name} is {found:?}, expected none", line["step"]);
                continue;
            };
            let [value, below, above] = [0, 1, 2].map(|i| range[i].as_f64().unwrap());
            let found = found.unwrap_or_else(|| panic!("{case}, step {}: no {name}", line["step"]));
            let inside = (value - below..=value + above).contains(&found);
            assert!(inside, "{case}, step {}: {name} is {found}, expected {value} -{below} +{above}", line["step"]);
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn dpo_with_lora_on_sdxl_has_the_figures_of_diffusers() {
    assert_trains_as_recomputed("sdxl-lora");
}

#[test]
fn full_dpo_on_sdxl_with_constant_time_ids_and_a_skipped_layer_has_the_figures_of_diffusers() {
    assert_trains_as_recomputed("sdxl-full-constant");
}

#[test]
fn dpo_on_an_sdxl_made_to_predict_velocity_with_zero_terminal_snr_has_the_figures_of_diffusers() {
    assert_trains_as_recomputed("sdxl-velocity-zero-snr");
}

#[test]
fn dpo_with_lora_on_sd21_with_velocity_has_the_figures_of_diffusers() {
    assert_trains_as_recomputed("sd21-lora");
}

#[test]
fn full_dpo_on_sd21_with_velocity_has_the_figures_of_diffusers() {
    assert_trains_as_recomputed("sd21-full");
}

#[test]
fn native_errors_of_velocity_with_zero_terminal_snr_have_the_figures_of_diffusers() {
    assert_trains_as_recomputed("sd21-zero-snr-native");
}

#[test]
fn true_sizes_constant_time_ids_and_another_noise_process_tell_the_network_different_things() {
    let first = |sets: Value| {
        let run = Run::new();
        let mut sets = sets;
        sets["train.steps"] = json!(1);
        run.train(&sets, &[]).assert().success();
        run.metrics()[0]["model_mse_w"].as_f64().unwrap()
    };
    let all = [
        first(json!({})),
        first(json!({"model.time_ids": "constant"})),
        first(json!({"model.prediction_type": "v_prediction"})),
        first(json!({"model.clip_skip": 1})),
    ];
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| (a - b).abs() > 1e-4 * a), "{all:?}");
    }
}

#[test]
fn at_the_end_of_a_zero_terminal_snr_schedule_margins_are_zero_and_everything_stays_finite() {
    let run = Run::new();
    let model = run.dir.path().join("model");
    support::copy(&root().join("tests/golden/families/sdxl"), &model);
    // Four timesteps: a quarter of the draws is the last, where abar = 0.
    let file = model.join("scheduler/scheduler_config.json");
    let mut scheduler: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    scheduler["num_train_timesteps"] = json!(4);
    std::fs::write(&file, scheduler.to_string()).unwrap();
    let velocity = sets("sdxl-velocity-zero-snr", json!({"model.path": model.display().to_string(), "train.steps": 6}));
    run.train(&velocity, &[]).assert().success();
    let mut seen = 0;
    for line in run.metrics() {
        for key in ["loss", "margin", "grad_norm", "model_mse_w", "ref_mse_l", "gradient_factor"] {
            assert!(line[key].as_f64().is_some_and(f64::is_finite), "{key}: {line}");
        }
        // Timestep 3 of 4 lies in the eighth tenth.
        if let Some(last) = line["margin_by_t"][7].as_f64() {
            assert_eq!(last, 0.0);
            seen += 1;
        }
    }
    assert!(seen > 0, "no pair was drawn at the last timestep");
}

#[test]
fn a_full_sdxl_run_ends_with_a_folder_that_loads_as_it_is() {
    let run = Run::new();
    run.train(&sets("sdxl-full-constant", json!({"train.steps": 1})), &[]).assert().success();
    let start = ModelFolder::open(&root().join("tests/golden/families/sdxl")).unwrap();
    let last = ModelFolder::open(&run.path("final")).unwrap();
    assert_eq!((last.family().name(), last.weight_files().len()), ("Stable Diffusion XL", 4));
    let weight = |folder: &ModelFolder| {
        let denoiser = folder.load_denoiser(None, &LoadOptions::cpu()).unwrap();
        let named = denoiser.network.named_parameters();
        named.into_iter().find(|(name, _)| name == "add_embedding.linear_1.weight").unwrap().1
    };
    assert!(!weight(&start).equal(&weight(&last)), "the added embedding is trained too");
    last.load_text(&LoadOptions::cpu()).unwrap();
    let card = std::fs::read_to_string(run.path("final/README.md")).unwrap();
    assert!(
        card.contains("- stable-diffusion-xl\n")
            && card.contains("StableDiffusionXLPipeline.from_pretrained(\"final\")")
    );
    let resolved: toml::Table = std::fs::read_to_string(run.path("resolved.toml")).unwrap().parse().unwrap();
    assert_eq!(resolved["model"]["time_ids"].as_str(), Some("constant"));
    assert_eq!(resolved["model"]["zero_terminal_snr"].as_bool(), Some(false));
    assert_eq!(resolved["sample"]["guidance_scale"].as_float(), Some(5.0));
}

#[test]
fn a_run_with_an_overridden_noise_process_ends_with_a_folder_that_says_it() {
    let run = Run::new();
    let full = json!({"lora.rank": 0, "optim.lr": 1e-4, "train.steps": 1});
    run.train(&sets("sdxl-velocity-zero-snr", full), &[]).assert().success();
    let last = ModelFolder::open(&run.path("final")).unwrap();
    assert_eq!(last.family().name(), "Stable Diffusion XL (v-prediction)");
    assert!(last.scheduler().rescale_betas_zero_snr);
}

#[test]
fn an_sdxl_lora_reads_back_and_names_its_base_model() {
    let run = Run::new();
    run.train(&sets("sdxl-lora", json!({"train.steps": 1})), &[]).assert().success();
    let targets = ModelFolder::open(&root().join("tests/golden/families/sdxl")).unwrap().lora_targets();
    let peft = run.path("final/pytorch_lora_weights.safetensors");
    let lora = Lora::read(&peft, &targets).unwrap().take(Network::Unet);
    // q, k, v, out of self- and cross-attention: down, mid and two on the way up, two blocks each.
    assert_eq!(lora.modules.len(), 8 * (1 + 1 + 2) * 2);
    let kohya = TensorFile::open(&run.path("final/kohya_lora_weights.safetensors")).unwrap();
    assert_eq!(kohya.metadata()["ss_base_model_version"], "sdxl_base_v1-0");
    assert_eq!(kohya.metadata()["modelspec.architecture"], "stable-diffusion-xl-v1-base/lora");
    let card = std::fs::read_to_string(run.path("final/README.md")).unwrap();
    assert!(card.contains("- stable-diffusion-xl\n") && card.contains("- lora\n"), "{card}");
}

/// A picture of step 0 of a run's samples, and the same picture by `diffpref generate`.
fn sample_and_generated(model: &str, more: Value) -> (image::RgbImage, image::RgbImage) {
    let run = Run::new();
    let mut all = json!({"train.steps": 1, "sample.every": 1, "sample.steps": 4, "sample.seeds": [3],
        "sample.prompts": ["a black cat!"], "model.path": format!("tests/golden/families/{model}")});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    run.train(&all, &[]).assert().success();
    let out = run.dir.path().join("pictures");
    let mut command = diffpref();
    command.current_dir(root()).env("HOME", run.dir.path()).env("OMP_NUM_THREADS", "1");
    command.args(["generate", "--prompt", "a black cat!", "--seed", "3", "--steps", "4", "--scheduler", "ddim"]);
    command.args(["--device", "cpu", "--clip-skip", &more["model.clip_skip"].as_i64().unwrap_or(0).to_string()]);
    command.arg(format!("--model=tests/golden/families/{model}")).arg("--out").arg(&out).assert().success();
    let rgb = |path: PathBuf| image::open(path).unwrap().to_rgb8();
    (rgb(run.path("samples/step-000000/00-3.png")), rgb(out.join("000000-00.png")))
}

#[test]
fn samples_while_training_are_the_pictures_of_generate() {
    for (model, more) in [
        ("sdxl", json!({})),
        ("sdxl", json!({"model.clip_skip": 1})),
        ("sd21", json!({"model.clip_skip": 1})), // the side without a prompt skips no layer
    ] {
        let (sample, generated) = sample_and_generated(model, more.clone());
        let levels = sample.as_raw().iter().zip(generated.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(levels <= 1, "{model} {more}: {levels} levels");
    }
}

#[test]
fn eval_compares_the_models_as_the_run_trained_them() {
    let run = Run::new();
    let changed = json!({"train.steps": 1, "model.clip_skip": 1});
    run.train(&sets("sdxl-velocity-zero-snr", changed), &[]).assert().success();
    let (models, _) = diffpref::denoising::models_of_run(&run.dir.path().join("run")).unwrap();
    assert_eq!(models.len(), 2);
    for model in models {
        let overrides = model.overrides;
        assert_eq!((overrides.clip_skip, overrides.zero_terminal_snr), (1, Some(true)), "{}", model.name);
        assert_eq!(overrides.prediction_type, Some(PredictionType::VPrediction), "{}", model.name);
        let request = ModelRequest {
            model: Location::of(&root().join(model.model.path)),
            unet: model.unet,
            vae: None,
            loras: model.loras,
            negative: None,
            overrides,
            device: tch::Device::Cpu,
            kind: tch::Kind::Float,
        };
        assert_eq!(request.folder(&Silent).unwrap().family().name(), "Stable Diffusion XL (v-prediction)");
    }
}

#[test]
fn a_dry_run_counts_both_families_and_writes_nothing() {
    for (case, family) in [("sdxl-lora", "Stable Diffusion XL"), ("sd21-full", "Stable Diffusion 1")] {
        let run = Run::new();
        let assert = run.train(&CASES[case]["set"], &["--dry-run"]).assert().success();
        let text = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
        assert!(text.contains(family), "{text}");
        assert!(!run.dir.path().join("run").exists() && !run.dir.path().join("cache/latents").exists());
    }
}

#[test]
fn keys_that_do_not_fit_the_model_are_refused_with_the_reason() {
    let run = Run::new();
    let told = run.refused(&sets("sd21-lora", json!({"model.time_ids": "constant"})));
    assert!(told.contains("model.time_ids: this model has no size inputs, only SDXL has"), "{told}");
    let epsilon = run.refused(&sets("sdxl-lora", json!({"model.zero_terminal_snr": true})));
    assert!(epsilon.contains("epsilon prediction with zero terminal SNR"), "{epsilon}");
    assert!(epsilon.contains("use v_prediction, or zero_terminal_snr = false"), "{epsilon}");
    let word = run.refused(&sets("sdxl-lora", json!({"model.time_ids": "sizes"})));
    assert!(word.contains("model.time_ids = \"sizes\": expected \"true_sizes\" | \"constant\""), "{word}");
    let skipped = run.refused(&sets("sdxl-lora", json!({"model.clip_skip": 2})));
    assert!(skipped.contains("model.clip_skip = 2: expected 0 to 1 for this model's text encoders"), "{skipped}");
    let kind = run.refused(&sets("sd21-lora", json!({"model.prediction_type": "sample"})));
    assert!(kind.contains("expected \"epsilon\" | \"v_prediction\""), "{kind}");
}
