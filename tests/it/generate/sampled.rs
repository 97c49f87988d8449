//! `generate` under every sampler against pictures of Python diffusers (golden/make_sampled.py), and what the options say.

use crate::support::{self, diffpref, furthest, rgb};
use assert_cmd::Command;
use diffpref::generate::Request;
use diffpref::painting::{ModelRequest, Overrides, SamplingRequest, Tiling};
use diffpref::progress::{Silent, Stop};
use pipelines::hub::Location;
use pipelines::schedulers::{PredictionType, Scheduler};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// No channel of any pixel may be further off: float32 sums in another order, rounded to bytes.
const LEVELS: i32 = 2;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden().join("sampled/cases.json")).unwrap()).unwrap()
}

/// The tiny model with another scheduler_config.json.
fn model_with(dir: &Path, scheduler: &Value) -> PathBuf {
    let model = dir.join("model");
    support::copy(&golden().join("generate/model"), &model);
    std::fs::write(model.join("scheduler/scheduler_config.json"), scheduler.to_string()).unwrap();
    model
}

/// One of the published files, by its name in cases.json, with changes.
fn file(name: &str, changes: Value) -> Value {
    let mut file = cases()["files"][name].clone();
    file.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    file
}

fn sampling(case: &Value, all: &Value) -> SamplingRequest {
    let number = |key: &str| case[key].as_f64();
    SamplingRequest {
        scheduler: case["scheduler"].as_str().and_then(Scheduler::by_name),
        steps: all["steps"].as_i64(),
        eta: number("eta"),
        karras: case["karras"].as_bool(),
        guidance_scale: if case["cfg-plus-plus"].is_null() { all["guidance-scale"].as_f64() } else { None },
        guidance_rescale: number("guidance-rescale"),
        cfg_plus_plus: number("cfg-plus-plus"),
    }
}

/// Paints seeds 5 and 6 of a case and returns how many levels they are off.
fn painted(name: &str, case: &Value, all: &Value, batch: usize) -> i32 {
    let dir = tempfile::tempdir().unwrap();
    let model = model_with(dir.path(), &all["files"][case["file"].as_str().unwrap()]);
    let overrides = Overrides {
        prediction_type: case["prediction-type"].as_str().and_then(PredictionType::named),
        zero_terminal_snr: case["zero-terminal-snr"].as_bool(),
        ..Overrides::default()
    };
    let request = Request {
        model: ModelRequest {
            model: Location::of(&model),
            unet: None,
            vae: None,
            loras: vec![],
            negative: None,
            overrides,
            device: Device::Cpu,
            kind: Kind::Float,
        },
        prompts: vec![all["prompt"].as_str().unwrap().to_string()],
        negative_prompt: None,
        sampling: sampling(case, all),
        seed: 5,
        num_images: 2,
        width: None,
        height: None,
        batch,
        tiling: Tiling::Auto,
        grid: false,
        resume: false,
        out: dir.path().join("out"),
        cache_dir: dir.path().join("cache"),
    };
    diffpref::generate::run(&request, &Silent, &Stop::default()).unwrap_or_else(|e| panic!("{name}: {e:#}"));
    let off = |(image, seed)| {
        let ours = rgb(&request.out.join(format!("000000-0{image}.png")));
        furthest(&ours, &rgb(&golden().join(format!("sampled/{name}-{seed}.png"))))
    };
    [(0, 5), (1, 6)].map(off).into_iter().max().unwrap()
}

/// Every case of a scheduler file, both pictures in one batch.
fn assert_equal_diffusers(file: &str) {
    tch::set_num_threads(1);
    let all = cases();
    let mut compared = 0;
    for (name, case) in all["cases"].as_object().unwrap().iter().filter(|(_, case)| case["file"] == file) {
        let levels = painted(name, case, &all, 2);
        eprintln!("{name}: {levels} levels");
        assert!(levels <= LEVELS, "{name}: {levels} levels");
        compared += 1;
    }
    assert!(compared >= 7, "{compared}");
}

#[test]
fn pictures_of_a_model_like_sd15_are_those_of_diffusers() {
    assert_equal_diffusers("sd15");
}

#[test]
fn pictures_of_a_model_like_sd21_v_are_those_of_diffusers() {
    assert_equal_diffusers("sd21_v");
}

#[test]
fn pictures_of_a_model_with_sdxls_scheduler_are_those_of_diffusers() {
    assert_equal_diffusers("sdxl");
}

#[test]
fn pictures_of_a_model_with_zero_terminal_snr_are_those_of_diffusers() {
    assert_equal_diffusers("zero_snr");
}

#[test]
fn a_sampler_that_adds_noise_draws_it_for_each_picture_whatever_the_batch() {
    tch::set_num_threads(1);
    let all = cases();
    for name in ["sd15-euler_a", "sd21_v-ddim-eta"] {
        assert!(painted(name, &all["cases"][name], &all, 1) <= LEVELS, "{name}");
    }
}

#[test]
fn golden_pictures_differ_where_sampling_does() {
    // Left out: those that mathematics makes equal, as DDIM and Euler at the same timesteps.
    let names = [
        "sd15-pndm",
        "sd15-ddim",
        "sd15-dpmpp_2m",
        "sd15-dpmpp_2m-karras",
        "sd15-euler",
        "sd15-euler_a",
        "sd15-rescale",
        "sd15-plus-plus",
        "sd15-as-v",
        "sd21_v-pndm",
        "sd21_v-ddim",
        "sd21_v-ddim-eta",
        "sd21_v-euler_a",
        "sd21_v-plus-plus",
        "sdxl-dpmpp_2m",
        "sdxl-euler-karras",
        "zero_snr-euler",
        "zero_snr-euler_a",
        "zero_snr-rescale",
    ];
    let pictures = names.map(|name| rgb(&golden().join(format!("sampled/{name}-5.png"))));
    for (i, a) in names.iter().enumerate() {
        for (j, b) in names[..i].iter().enumerate() {
            let levels = furthest(&pictures[i], &pictures[j]);
            assert!(levels > 3 * LEVELS, "{a} {b}: {levels}");
        }
    }
}

/// `diffpref generate` with the tiny model under a scheduler file, into `dir`/out.
fn generate(dir: &Path, scheduler: &Value, arguments: &[&str]) -> Command {
    let mut command = diffpref();
    command.args(["generate", "--prompt", "a cat", "--device", "cpu", "--model"]);
    command.arg(model_with(dir, scheduler)).arg("--out").arg(dir.join("out")).args(arguments);
    command.env("HOME", dir).env("OMP_NUM_THREADS", "1");
    command
}

fn record(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("images.jsonl")).unwrap();
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

#[test]
fn records_and_parameters_say_how_a_picture_was_sampled() {
    let cases: [(&str, &[&str], Value, &str); 6] = [
        (
            "sd15",
            &["--steps", "4"],
            json!({"scheduler": "pndm", "steps": 4, "guidance_scale": 7.5, "karras": false}),
            "Steps: 4, Sampler: PLMS, CFG scale: 7.5,",
        ),
        (
            "sd15",
            &["--scheduler", "dpmpp_2m", "--karras"],
            json!({"scheduler": "dpmpp_2m", "steps": 25, "karras": true, "zero_terminal_snr": false}),
            "Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 7.5,",
        ),
        (
            "sd15",
            &["--steps", "3", "--scheduler", "euler_a", "--guidance-rescale", "0.7", "--guidance-scale", "3"],
            json!({"scheduler": "euler_a", "guidance_scale": 3.0, "guidance_rescale": 0.7, "cfg_plus_plus": null}),
            "Steps: 3, Sampler: Euler a, CFG scale: 3.0,",
        ),
        (
            "sd15",
            &["--steps", "3", "--scheduler", "ddim", "--cfg-plus-plus", "0.4"],
            json!({"scheduler": "ddim", "guidance_scale": null, "cfg_plus_plus": 0.4}),
            "Steps: 3, Sampler: DDIM, CFG++: 0.4,",
        ),
        (
            "sd15",
            &["--steps", "3", "--scheduler", "euler", "--zero-terminal-snr", "--prediction-type", "v_prediction"],
            json!({"scheduler": "euler", "prediction_type": "v_prediction", "zero_terminal_snr": true}),
            "Noise Schedule: Zero Terminal SNR",
        ),
        (
            "zero_snr",
            &["--steps", "3", "--zero-terminal-snr", "false", "--karras=false"],
            json!({"scheduler": "ddim", "prediction_type": "v_prediction", "zero_terminal_snr": false, "karras": false}),
            "Prediction type: v_prediction",
        ),
    ];
    for (name, arguments, expected, parameters) in cases {
        let dir = tempfile::tempdir().unwrap();
        generate(dir.path(), &file(name, json!({})), arguments).assert().success();
        let record = record(&dir.path().join("out"));
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&record[key], value, "{arguments:?} {key}");
        }
        let text = diffpref::painting::read_png_text(&dir.path().join("out/000000-00.png"), "parameters").unwrap();
        assert!(text.contains(parameters), "{text}");
    }
}

#[test]
fn resume_notices_another_way_to_sample() {
    let dir = tempfile::tempdir().unwrap();
    let sd15 = file("sd15", json!({}));
    generate(dir.path(), &sd15, &["--steps", "2"]).assert().success();
    let refused = |scheduler: &Value, more: &[&str]| {
        let arguments = [&["--steps", "2", "--resume"], more].concat();
        let assert = generate(dir.path(), scheduler, &arguments).assert().failure().code(1);
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    };
    for (more, key) in [
        (&["--scheduler", "ddim"][..], "another scheduler: \"pndm\" there, \"ddim\" asked for"),
        (&["--guidance-rescale", "0.5"], "another guidance_rescale: 0.0 there, 0.5 asked for"),
        (&["--prediction-type", "v_prediction"], "another prediction_type: \"epsilon\" there"),
    ] {
        let text = refused(&sd15, more);
        assert!(text.contains(key), "{text}");
    }
    let text = refused(&file("sd15", json!({"timestep_spacing": "trailing"})), &[]);
    assert!(text.contains("another scheduler_config: "), "{text}");
    generate(dir.path(), &sd15, &["--steps", "2", "--resume"]).assert().success();
}

#[test]
fn options_that_do_not_go_together_exit_with_2_and_the_reason() {
    let (sd15, zero) = (file("sd15", json!({})), file("zero_snr", json!({})));
    let own = file("sd15", json!({"_class_name": "UniPCMultistepScheduler"}));
    let cases: [(&Value, &[&str], &str); 21] = [
        (&sd15, &["--eta", "0.5"], "--eta 0.5: pndm has no eta; ddim has"),
        (&sd15, &["--scheduler", "euler_a", "--eta", "0"], "--eta 0: euler_a has no eta; ddim has"),
        (&sd15, &["--scheduler", "ddim", "--eta", "1.5"], "--eta 1.5: expected 0"),
        (&sd15, &["--karras"], "--karras: pndm has no noise levels that Karras's could replace; dpmpp_2m, euler have"),
        (&sd15, &["--scheduler", "ddim", "--karras"], "--karras: ddim has no noise levels"),
        (&sd15, &["--cfg-plus-plus", "0.4"], "--cfg-plus-plus 0.4: pndm has no step that noises again"),
        (&sd15, &["--scheduler", "ddim", "--cfg-plus-plus", "1.4"], "--cfg-plus-plus 1.4: expected 0 to 1"),
        (
            &sd15,
            &["--scheduler", "ddim", "--cfg-plus-plus", "0.4", "--guidance-scale", "5"],
            "--cfg-plus-plus 0.4: it takes the place of --guidance-scale 5",
        ),
        (
            &sd15,
            &["--scheduler", "ddim", "--cfg-plus-plus", "0.4", "--guidance-rescale", "0.7"],
            "--cfg-plus-plus 0.4: --guidance-rescale 0.7 belongs to the guidance that it replaces",
        ),
        (
            &sd15,
            &["--scheduler", "ddim", "--cfg-plus-plus", "0.4", "--eta", "1"],
            "--cfg-plus-plus 0.4: it noises again with the negative prediction, not with --eta 1",
        ),
        (&sd15, &["--guidance-rescale", "2"], "--guidance-rescale 2: expected 0 (off) to 1"),
        (
            &sd15,
            &["--guidance-rescale", "0.7", "--guidance-scale", "1"],
            "--guidance-rescale 0.7: with --guidance-scale 1 there is no guidance to rescale",
        ),
        (
            &sd15,
            &["--scheduler", "ddim", "--zero-terminal-snr"],
            "--zero-terminal-snr true: epsilon prediction with zero terminal SNR",
        ),
        (
            &zero,
            &["--prediction-type", "epsilon"],
            "--prediction-type epsilon: epsilon prediction with zero terminal SNR",
        ),
        (
            &sd15,
            &["--zero-terminal-snr", "--prediction-type", "v_prediction"],
            "--zero-terminal-snr: pndm does not know it; ddim, dpmpp_2m, euler, euler_a have it",
        ),
        (&sd15, &["--prediction-type", "sample"], "[possible values: auto, epsilon, v_prediction]"),
        (&sd15, &["--scheduler", "lms"], "[possible values: auto, pndm, ddim, dpmpp_2m, euler, euler_a]"),
        (&own, &[], "the model's own scheduler is UniPCMultistepScheduler"),
        (&own, &[], "there is: pndm, ddim, dpmpp_2m, euler, euler_a. Choose one of them"),
        (&sd15, &["--steps", "1001"], "--steps 1001: 1001 sampling steps: expected 1 to 1000"),
        (
            &sd15,
            &["--scheduler", "dpmpp_2m", "--steps", "1000"],
            "--steps 1000: 1000 sampling steps visit timestep 500 twice",
        ),
    ];
    for (scheduler, arguments, message) in cases {
        let dir = tempfile::tempdir().unwrap();
        let assert = generate(dir.path(), scheduler, arguments).assert().failure().code(2);
        let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(text.contains(message), "{arguments:?}: {text}");
        assert!(!dir.path().join("out").exists(), "nothing is made before the arguments are checked");
    }
}

#[test]
fn a_scheduler_file_that_asks_for_more_than_is_built_exits_with_1_and_names_the_key() {
    for (changes, arguments, message) in [
        (json!({"skip_prk_steps": null}), &[][..], "`skip_prk_steps` is not true"),
        (json!({"solver_order": 3}), &["--scheduler", "dpmpp_2m"], "`solver_order` is 3, which is not implemented"),
        (json!({"use_beta_sigmas": true}), &["--scheduler", "euler"], "`use_beta_sigmas` is true"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let assert = generate(dir.path(), &file("sd15", changes), arguments).assert().failure().code(1);
        let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(text.contains("does not fit the model") && text.contains(message), "{text}");
        assert!(!dir.path().join("out").exists());
    }
}

#[test]
fn notes_say_what_a_scheduler_file_leads_to() {
    let noted = |scheduler: Value, arguments: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let assert = generate(dir.path(), &scheduler, arguments).assert().success();
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    };
    let clipping = noted(file("sd15", json!({"clip_sample": null})), &["--scheduler", "ddim", "--steps", "1"]);
    assert!(clipping.contains("does not set clip_sample, so DDIM clips the latents"), "{clipping}");
    let other = noted(file("sd15", json!({"clip_sample": null})), &["--steps", "1"]);
    assert!(!other.contains("clip_sample"), "{other}");
    let zero = noted(file("zero_snr", json!({})), &["--scheduler", "pndm", "--steps", "2"]);
    assert!(zero.contains("sets zero terminal SNR, which pndm ignores as in diffusers"), "{zero}");
}
