//! Negative models: the real binary against pictures made by hand between two networks (golden/make_negative.py), what is
//! shared, what the records say, and the refusals.

use crate::support::{self, copy, diffpref, furthest, rgb, succeeds};
use assert_cmd::Command;
use image::RgbImage;
use pipelines::families::ModelFolder;
use pipelines::sampling::{Guidance, Side, denoise, sample};
use pipelines::schedulers::{SamplerOptions, Scheduler};
use pipelines::weights::{LoadOptions, TensorFile, write_safetensors};
use pipelines::{Conditioning, Levels};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// No channel of any pixel may be further off: float32 sums in another order, rounded to bytes.
const LEVELS: i32 = 2;
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn model(name: &str) -> PathBuf {
    golden().join(if name == "sd" { "generate/model" } else { "families/sdxl" })
}

fn cases() -> Value {
    support::json(&golden().join("negative/cases.json"))
}

/// The UNet of golden/sides.py: 0.7 w + 0.3 w flipped along its first dimension.
fn other_unet(dir: &Path, name: &str) -> PathBuf {
    let unet = dir.join("other-unet");
    std::fs::create_dir_all(&unet).unwrap();
    std::fs::copy(model(name).join("unet/config.json"), unet.join("config.json")).unwrap();
    let file = TensorFile::open(&model(name).join("unet").join(WEIGHTS)).unwrap();
    let other = |name: &str| -> Tensor {
        let weight = file.tensor(name).unwrap().to_kind(Kind::Float);
        &weight * 0.7 + weight.flip([0]) * 0.3
    };
    let tensors: Vec<(String, Tensor)> = file.names().map(|name| (name.to_string(), other(name))).collect();
    write_safetensors(&unet.join(WEIGHTS), &tensors, &[]).unwrap();
    unet
}

/// The LoRA `good` or `bad` of a model as `FILE:scale`.
fn lora(name: &str, which: &str, scale: f64) -> String {
    format!("{}:{scale}", golden().join(format!("negative/{name}-{which}.safetensors")).display())
}

/// `generate` with the options of all golden pictures.
fn paint(name: &str, out: &Path, arguments: &[&str]) -> Command {
    let mut command = diffpref();
    command.args(["generate", "--scheduler", "ddim", "--steps", "8", "--seed", "5", "--device", "cpu", "--model"]);
    command.arg(model(name)).arg("--out").arg(out).args(arguments);
    for default in [["--prompt", "a black cat in the forest"], ["--guidance-scale", "4"]] {
        let said = arguments.contains(&default[0]) || arguments.contains(&"--cfg-plus-plus");
        if default[0] == "--prompt" || !said {
            command.args(default);
        }
    }
    command
}

/// A case of cases.json as options.
fn options(name: &str, case: &Value, unet: &Path) -> Vec<String> {
    let mut options = Vec::new();
    let mut say = |option: &str, value: String| options.extend([option.to_string(), value]);
    let loras = |key: &str| case[key].as_array().cloned().unwrap_or_default();
    for (key, option) in [("unet", "--unet"), ("negative_unet", "--negative-unet")] {
        if case[key] == true {
            say(option, unet.display().to_string());
        }
    }
    for (key, option) in [("lora", "--lora"), ("negative_lora", "--negative-lora")] {
        for file in loras(key) {
            say(option, lora(name, file[0].as_str().unwrap(), file[1].as_f64().unwrap()));
        }
    }
    if let [alpha, beta] = &loras("negative_merge")[..] {
        say("--negative-merge", format!("{alpha},{beta}"));
    }
    if let Some(prompt) = case["negative_prompt"].as_str() {
        say("--negative-prompt", prompt.to_string());
    }
    for (key, option) in [("rescale", "--guidance-rescale"), ("lam", "--cfg-plus-plus")] {
        if !case[key].is_null() {
            say(option, case[key].to_string());
        }
    }
    options
}

/// The picture of a call.
fn painted(name: &str, out: &Path, arguments: &[&str]) -> RgbImage {
    succeeds(&mut paint(name, out, arguments));
    rgb(&out.join("000000-00.png"))
}

fn record(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("images.jsonl")).unwrap();
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

/// stderr of a failing call, with the temporary folder as DIR.
fn refused(command: &mut Command, code: i32, dir: &Path) -> String {
    let assert = command.assert().failure().code(code);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).replace(&dir.display().to_string(), "DIR");
    assert!(!text.contains("panicked") && !text.contains("Exception raised"), "{text}");
    text
}

fn assert_equal_the_reference(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let unet = other_unet(dir.path(), name);
    let mut compared = 0;
    for (case, what) in cases()["cases"].as_object().unwrap() {
        let options = options(name, what, &unet);
        let arguments: Vec<&str> = options.iter().map(String::as_str).collect();
        let ours = painted(name, &dir.path().join(case), &arguments);
        let levels = furthest(&ours, &rgb(&golden().join(format!("negative/{name}-{case}.png"))));
        eprintln!("{name} {case}: {levels} levels");
        assert!(levels <= LEVELS, "{name} {case}: {levels} levels");
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn pictures_between_two_networks_are_those_made_by_hand() {
    assert_equal_the_reference("sd");
}

#[test]
fn pictures_between_two_sdxl_networks_are_those_made_by_hand() {
    assert_equal_the_reference("sdxl");
}

#[test]
fn golden_pictures_differ_where_the_sides_do() {
    for name in ["sd", "sdxl"] {
        let names: Vec<String> = cases()["cases"].as_object().unwrap().keys().cloned().collect();
        let picture = |case: &String| rgb(&golden().join(format!("negative/{name}-{case}.png")));
        for (i, a) in names.iter().enumerate() {
            for b in &names[..i] {
                let levels = furthest(&picture(a), &picture(b));
                assert!(levels > 5 * LEVELS, "{name} {a} {b}: {levels}");
            }
        }
    }
}

#[test]
fn a_negative_side_equal_to_the_positive_one_is_plain_guidance_and_loads_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, copied) = (dir.path().join("plain"), dir.path().join("copied-unet"));
    copy(&model("sd").join("unet"), &copied);
    let good = lora("sd", "good", 0.8);
    let half = lora("sd", "good", 0.4);
    let expected = painted("sd", &plain, &["--lora", &good]);
    let copied = copied.to_str().unwrap();
    let ways: [(&str, &[&str]); 3] = [
        ("a-copy", &["--lora", &good, "--negative-unet", copied, "--negative-lora", &good]),
        ("two-halves", &["--lora", &good, "--negative-lora", &half, "--negative-lora", &half]),
        ("merged-away", &["--lora", &good, "--negative-unet", copied, "--negative-merge", "1,0"]),
    ];
    for (way, arguments) in ways {
        let out = dir.path().join(way);
        let said = succeeds(&mut paint("sd", &out, arguments));
        assert!(said.contains("the negative side the same UNet"), "{way}: {said}");
        assert_eq!(furthest(&rgb(&out.join("000000-00.png")), &expected), 0, "{way}");
    }
}

#[test]
fn two_loads_of_one_network_predict_bit_for_bit_what_one_asked_twice_does() {
    tch::set_num_threads(1);
    let _frozen = tch::no_grad_guard();
    let folder = ModelFolder::open(&model("sd")).unwrap();
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
    let load = || folder.load_denoiser(None, &options).unwrap();
    let (first, second) = (load(), load());
    let mut generator = diffpref_native::Generator::cpu(7);
    let mut told = || Conditioning::of_prompt(generator.randn(&[2, 16, 24]));
    let (prompt, empty) = (told(), told());
    let start = generator.randn(&[2, 4, 16, 16]);
    let guidance = Guidance::of_scale(4.0);
    let sampler = || Scheduler::ddim().sampler(folder.scheduler(), 6, &SamplerOptions::default()).unwrap();
    let side = |denoiser, conditioning| Side { denoiser, adapters: None, conditioning };
    let apart = sample(
        &side(&first, &prompt),
        Some(&side(&second, &empty)),
        sampler().as_mut(),
        guidance,
        start.shallow_clone(),
        &mut || panic!("eta 0 draws no noise"),
        &mut |_| true,
    );
    let ask = |x: &Tensor, t: f64, told: &Conditioning| first.predict(x, &Levels::same(t, 2, Device::Cpu), told, None);
    let mut predict = |x: &Tensor, t| Ok(guidance.combine(&ask(x, t, &empty)?, &ask(x, t, &prompt)?));
    let plain = denoise(sampler().as_mut(), start, &mut predict, &mut || panic!("no noise"), &mut |_| true);
    assert!(apart.unwrap().unwrap().equal(&plain.unwrap().unwrap()));
}

#[test]
fn a_negative_lora_and_the_same_one_merged_into_a_folder_give_equal_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let unet_only = dir.path().join("unet.safetensors");
    let file = TensorFile::open(&golden().join("negative/sd-bad.safetensors")).unwrap();
    let tensors: Vec<(String, Tensor)> = file
        .names()
        .filter(|name| name.starts_with("unet."))
        .map(|name| (name.to_string(), file.tensor(name).unwrap()))
        .collect();
    write_safetensors(&unet_only, &tensors, &[]).unwrap();
    let merged = dir.path().join("merged");
    let mut export = diffpref();
    export.arg("export").arg("--model").arg(model("sd")).arg("--lora").arg(&unet_only);
    succeeds(export.args(["--format", "diffusers", "--dtype", "float32"]).arg("--out").arg(&merged));
    let worn = painted("sd", &dir.path().join("worn"), &["--negative-lora", unet_only.to_str().unwrap()]);
    let unet = merged.join("unet");
    let own = painted("sd", &dir.path().join("own"), &["--negative-unet", unet.to_str().unwrap()]);
    let levels = furthest(&worn, &own);
    assert!(levels <= 1, "{levels}");
}

#[test]
fn a_batch_changes_no_picture_between_two_networks_by_more_than_rounding() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (lora("sd", "good", 0.8), lora("sd", "bad", 1.0));
    for batch in ["1", "3"] {
        let arguments =
            ["--lora", &good, "--negative-lora", &bad, "--num-images", "3", "--prompt", "red panda", "--batch", batch];
        succeeds(&mut paint("sd", &dir.path().join(batch), &arguments));
    }
    for file in ["000000-00.png", "000000-02.png", "000001-01.png"] {
        let levels = furthest(&rgb(&dir.path().join("1").join(file)), &rgb(&dir.path().join("3").join(file)));
        assert!(levels <= LEVELS, "{file}: {levels}");
    }
}

#[test]
fn every_sampler_takes_a_negative_side() {
    let dir = tempfile::tempdir().unwrap();
    let bad = lora("sdxl", "bad", 1.0);
    for scheduler in ["pndm", "dpmpp_2m", "euler", "euler_a"] {
        let mut pictures = Vec::new();
        for (side, arguments) in [("plain", &[][..]), ("negative", &["--negative-lora", bad.as_str()])] {
            let out = dir.path().join(format!("{scheduler}-{side}"));
            let mut command = diffpref();
            command.args([
                "generate",
                "--prompt",
                "a cat",
                "--steps",
                "6",
                "--device",
                "cpu",
                "--scheduler",
                scheduler,
            ]);
            succeeds(command.arg("--model").arg(model("sdxl")).arg("--out").arg(&out).args(arguments));
            pictures.push(rgb(&out.join("000000-00.png")));
        }
        let levels = furthest(&pictures[0], &pictures[1]);
        assert!(levels > 5 * LEVELS, "{scheduler}: {levels}");
    }
}

#[test]
fn the_record_names_every_file_of_both_sides_and_resume_knows_a_moved_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let unet = other_unet(dir.path(), "sd");
    let bad = lora("sd", "bad", 0.5);
    let with = |unet: &Path, merge: &str, more: &[&str]| {
        let unet = unet.display().to_string();
        let arguments = ["--negative-unet", &unet, "--negative-lora", &bad, "--negative-merge", merge];
        paint("sd", &out, &[&arguments[..], more].concat())
    };
    let said = succeeds(&mut with(&unet, "1,0.5", &[]));
    let sizes =
        "memory: the positive side has a UNet of 1.0 MiB, the negative side a UNet of 1.0 MiB and LoRAs of 0.0 MiB";
    assert!(said.contains(sizes), "{said}");
    let negative = record(&out)["negative"].clone();
    let hash = |path: &Path| support::sha256(&std::fs::read(path).unwrap());
    assert_eq!(negative["merge"], json!([1.0, 0.5]));
    assert_eq!(negative["unet"], json!(unet.display().to_string()));
    assert_eq!(negative["weights"][format!("unet/{WEIGHTS}")], json!(hash(&unet.join(WEIGHTS))));
    assert_eq!(negative["weights"][format!("base/{WEIGHTS}")], json!(hash(&model("sd").join("unet").join(WEIGHTS))));
    assert_eq!(negative["loras"][0]["sha256"], json!(hash(&golden().join("negative/sd-bad.safetensors"))));
    assert_eq!(negative["loras"][0]["scale"], json!(0.5));
    let text = diffpref::painting::read_png_text(&out.join("000000-00.png"), "parameters").unwrap();
    let short: String = hash(&unet.join(WEIGHTS)).chars().take(10).collect();
    assert!(text.contains(&format!("Negative model hash: {short}, Negative Lora hashes: \"sd-bad: ")), "{text}");
    assert!(text.contains("Negative merge: \"1.0, 0.5\""), "{text}");

    let moved = dir.path().join("moved");
    std::fs::rename(&unet, &moved).unwrap();
    let said = succeeds(&mut with(&moved, "1,0.5", &["--resume"]));
    assert!(said.contains("1 of 1 pictures are there already"), "{said}");
    let text = refused(&mut with(&moved, "1,1", &["--resume"]), 1, dir.path());
    assert!(text.contains("was made with another negative: "), "{text}");
}

#[test]
fn another_vae_takes_the_place_of_the_models_own() {
    let dir = tempfile::tempdir().unwrap();
    let vae = dir.path().join("vae");
    copy(&model("sd").join("vae"), &vae);
    let own = painted("sd", &dir.path().join("own"), &[]);
    let same = painted("sd", &dir.path().join("same"), &["--vae", vae.to_str().unwrap()]);
    assert_eq!(furthest(&own, &same), 0);
    let file = TensorFile::open(&vae.join(WEIGHTS)).unwrap();
    let tensors: Vec<(String, Tensor)> =
        file.names().map(|name| (name.to_string(), file.tensor(name).unwrap().to_kind(Kind::Float) * 0.9)).collect();
    let other = dir.path().join("other");
    copy(&vae, &other);
    write_safetensors(&other.join(WEIGHTS), &tensors, &[]).unwrap();
    let out = dir.path().join("changed");
    assert!(furthest(&own, &painted("sd", &out, &["--vae", other.to_str().unwrap()])) > LEVELS);
    let hash = support::sha256(&std::fs::read(other.join(WEIGHTS)).unwrap());
    assert_eq!(record(&out)["weights"][format!("vae/{WEIGHTS}")], json!(hash));
    let file = other.join(WEIGHTS);
    let by_file = dir.path().join("by-file");
    assert_eq!(
        furthest(&painted("sd", &by_file, &["--vae", file.to_str().unwrap()]), &rgb(&out.join("000000-00.png"))),
        0
    );
    assert_eq!(record(&by_file)["weights"][format!("vae/{WEIGHTS}")], json!(hash));
    let lora = lora("sd", "good", 1.0);
    let (lora, _) = lora.rsplit_once(':').unwrap();
    let no_vae = refused(&mut paint("sd", &dir.path().join("lora"), &["--vae", lora]), 1, dir.path());
    assert!(
        no_vae.contains("missing (124)") && no_vae.contains("encoder.down_blocks.0.resnets.0.norm1.weight"),
        "{no_vae}"
    );
    let missing = refused(&mut paint("sd", &dir.path().join("none"), &["--vae", "/no/such/vae"]), 1, dir.path());
    assert!(missing.contains("/no/such/vae"), "{missing}");
}

#[test]
fn a_negative_side_that_cannot_be_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let bad = lora("sd", "bad", 1.0);
    let foreign = lora("sdxl", "bad", 1.0);
    let sdxl = model("sdxl").join("unet").display().to_string();
    let deeper = dir.path().join("deeper");
    copy(&model("sd").join("unet"), &deeper);
    let mut config = support::json(&deeper.join("config.json"));
    config["layers_per_block"] = json!(2);
    std::fs::write(deeper.join("config.json"), config.to_string()).unwrap();
    let deeper = deeper.display().to_string();
    let cases: [(&[&str], i32, &str); 8] = [
        (
            &["--negative-merge", "1,1"],
            2,
            "--negative-merge 1,1: there is no negative side to merge; give --negative-unet",
        ),
        (&["--negative-merge", "1", "--negative-lora", &bad], 2, "expected two numbers, alpha,beta, for example 1,1"),
        (&["--negative-lora", &bad, "--guidance-scale", "1"], 2, "the negative model would do nothing"),
        (
            &["--negative-unet", &deeper],
            1,
            "DIR/deeper/config.json: this is another network than the model's own UNet: layers_per_block is [2, 2], not [1, 1]",
        ),
        (&["--negative-unet", &sdxl], 1, "families/sdxl/unet/config.json"),
        (&["--negative-unet", "/no/such/unet"], 1, "/no/such/unet"),
        (&["--negative-lora", "/no/such/lora.safetensors"], 1, "/no/such/lora.safetensors"),
        (&["--negative-lora", ":1"], 2, "expected FILE or FILE:scale"),
    ];
    for (arguments, code, message) in cases {
        let text = refused(&mut paint("sd", &out, arguments), code, dir.path());
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
    let text = refused(&mut paint("sd", &out, &["--negative-lora", &foreign]), 1, dir.path());
    assert!(text.contains("cannot use the LoRA") && text.contains("sdxl-bad.safetensors"), "{text}");
    let pictures = std::fs::read_dir(&out)
        .map(|entries| entries.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "png")).count());
    assert_eq!(pictures.unwrap_or_default(), 0);
}
