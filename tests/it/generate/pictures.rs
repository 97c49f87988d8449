//! `diffpref generate`: the real binary against pictures of Python diffusers (golden/make_generate.py), and its refusals.

use crate::support;
use assert_cmd::Command;
use diffpref::generate::{Look, Painter, Picture, PromptMemory};
use diffpref::progress::{Progress, Signal, Stop, Stopped};
use image::RgbImage;
use pipelines::families::ModelFolder;
use pipelines::weights::LoadOptions;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// No channel of any pixel may be further off: float32 sums in another order, rounded to bytes.
const LEVELS: i32 = 2;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/generate")
}

fn generate(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("diffpref").unwrap();
    // One thread: the networks are so small that two spend their time waiting for each other.
    command.arg("generate").args(arguments).env("HOME", env!("CARGO_TARGET_TMPDIR")).env("OMP_NUM_THREADS", "1");
    command
}

/// The tiny model and its prompt into `out`; 10 steps from seed 5 on the CPU unless `arguments` say otherwise.
fn paint(out: &Path, arguments: &[&str]) -> Command {
    let mut command = generate(&["--prompt", "a black cat in the forest", "--model"]);
    command.arg(golden().join("model")).arg("--out").arg(out).args(arguments);
    for default in [["--steps", "10"], ["--seed", "5"], ["--device", "cpu"]] {
        if !arguments.contains(&default[0]) {
            command.args(default);
        }
    }
    command
}

fn rgb(path: &Path) -> RgbImage {
    image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).to_rgb8()
}

fn furthest(a: &RgbImage, b: &RgbImage) -> i32 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).max().unwrap()
}

fn index(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("images.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// stderr of a failing call, with its exit code and with the temporary folder as DIR.
fn refused(command: &mut Command, code: i32, dir: &Path) -> String {
    let assert = command.assert().failure().code(code);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).replace(&dir.display().to_string(), "DIR");
    assert!(!text.contains("panicked") && !text.contains("Exception raised"), "{text}");
    text
}

fn assert_equals_diffusers(case: &str, arguments: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    paint(dir.path(), &[arguments, &["--num-images", "2", "--batch", "2"]].concat()).assert().success();
    for (image, seed) in [(0, 5), (1, 6)] {
        let ours = rgb(&dir.path().join(format!("000000-{image:02}.png")));
        let theirs = rgb(&golden().join(format!("{case}-{seed}.png")));
        let levels = furthest(&ours, &theirs);
        eprintln!("{case}, seed {seed}: {levels} levels");
        assert!(levels <= LEVELS, "{case}, seed {seed}: {levels} levels");
    }
}

#[test]
fn a_guided_picture_is_the_one_of_diffusers() {
    assert_equals_diffusers("plain", &[]);
}

#[test]
fn a_picture_with_noise_at_every_step_is_the_one_of_diffusers() {
    assert_equals_diffusers("eta", &["--eta", "1"]);
}

#[test]
fn a_picture_without_guidance_is_the_one_of_diffusers() {
    assert_equals_diffusers("unguided", &["--guidance-scale", "1"]);
}

#[test]
fn a_picture_with_a_negative_prompt_is_the_one_of_diffusers() {
    let negative = ["--guidance-scale", "4", "--eta", "0.5", "--negative-prompt", "red apple, hot pepper"];
    assert_equals_diffusers("negative", &negative);
}

#[test]
fn a_wide_picture_is_the_one_of_diffusers() {
    assert_equals_diffusers("wide", &["--width", "48", "--height", "24"]);
}

#[test]
fn a_picture_under_a_scaled_lora_is_the_one_of_diffusers() {
    let lora = format!("{}:0.5", golden().join("lora.safetensors").display());
    assert_equals_diffusers("lora", &["--guidance-scale", "3", "--lora", &lora]);
    let quarter = format!("{}:0.25", golden().join("lora.safetensors").display());
    assert_equals_diffusers("lora", &["--guidance-scale", "3", "--lora", &quarter, "--lora", &quarter]);
}

#[test]
fn golden_pictures_differ_where_options_do() {
    let pictures: Vec<RgbImage> = ["plain-5", "eta-5", "unguided-5", "negative-5", "lora-5", "plain-6"]
        .map(|name| rgb(&golden().join(format!("{name}.png"))))
        .into();
    for (i, a) in pictures.iter().enumerate() {
        for b in &pictures[..i] {
            assert!(furthest(a, b) > 10 * LEVELS, "{}", furthest(a, b));
        }
    }
}

#[test]
fn a_unet_folder_replaces_the_models_own() {
    let dir = tempfile::tempdir().unwrap();
    let unet = golden().join("model/unet");
    paint(dir.path(), &["--unet", unet.to_str().unwrap()]).assert().success();
    assert!(furthest(&rgb(&dir.path().join("000000-00.png")), &rgb(&golden().join("plain-5.png"))) <= LEVELS);
    let missing = paint(&dir.path().join("other"), &["--unet", "/no/such/unet"]).assert().failure().code(1);
    assert!(String::from_utf8_lossy(&missing.get_output().stderr).contains("/no/such/unet"));
}

#[test]
fn pictures_carry_their_parameters_and_images_jsonl_lists_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("pictures");
    let call = paint(
        &out,
        &["--num-images", "2", "--negative-prompt", "blauer Fuchs 🦊", "--prompt", "red panda", "--grid", "--json"],
    )
    .assert()
    .success();
    let report: Value = serde_json::from_slice(&call.get_output().stdout).unwrap();
    assert_eq!((&report["painted"], &report["skipped"]), (&4.into(), &0.into()));
    let records = index(&out);
    assert_eq!(report["images"].as_array().unwrap(), &records);
    let files: Vec<&str> = records.iter().map(|r| r["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["000000-00.png", "000000-01.png", "000001-00.png", "000001-01.png"]);
    let last = &records[3];
    assert_eq!((&last["prompt"], &last["seed"], &last["steps"]), (&"red panda".into(), &6.into(), &10.into()));
    assert_eq!(last["weights"].as_object().unwrap().len(), 3);
    assert!(last["weights"]["unet/diffusion_pytorch_model.safetensors"].as_str().unwrap().len() == 64);
    let text = |key| diffpref::generate::read_png_text(&out.join("000001-01.png"), key).unwrap();
    assert_eq!(&serde_json::from_str::<Value>(&text("diffpref")).unwrap(), last);
    let parameters = text("parameters");
    assert!(parameters.starts_with("red panda\nNegative prompt: blauer Fuchs 🦊\nSteps: 10, Sampler: DDIM, CFG scale: 7.5, Seed: 6, Size: 32x32, Model hash: "));
    assert_eq!(rgb(&out.join("grid.png")).dimensions(), (66, 66));
}

#[test]
fn a_batch_changes_no_picture_by_more_than_rounding() {
    let dir = tempfile::tempdir().unwrap();
    for batch in ["1", "3"] {
        let more = ["--num-images", "2", "--prompt", "red panda", "--eta", "1", "--batch", batch];
        paint(&dir.path().join(batch), &more).assert().success();
    }
    for file in ["000000-00.png", "000000-01.png", "000001-00.png", "000001-01.png"] {
        let levels = furthest(&rgb(&dir.path().join("1").join(file)), &rgb(&dir.path().join("3").join(file)));
        assert!(levels <= LEVELS, "{file}: {levels}");
    }
}

#[test]
fn resume_keeps_equal_pictures_and_makes_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    paint(out, &["--num-images", "3"]).assert().success();
    let before = std::fs::read(out.join("000000-01.png")).unwrap();
    std::fs::remove_file(out.join("000000-01.png")).unwrap();
    let untouched = std::fs::metadata(out.join("000000-00.png")).unwrap().modified().unwrap();
    // a line torn by a crash, and a picture whose line was never written
    let lines = std::fs::read_to_string(out.join("images.jsonl")).unwrap();
    let first = lines.lines().next().unwrap();
    std::fs::write(out.join("images.jsonl"), format!("{first}\n{{\"file\": \"0000")).unwrap();
    let call = paint(out, &["--num-images", "3", "--resume", "--batch", "2", "--json"]).assert().success();
    let report: Value = serde_json::from_slice(&call.get_output().stdout).unwrap();
    assert_eq!((&report["painted"], &report["skipped"]), (&1.into(), &2.into()));
    assert_eq!(index(out).len(), 3);
    assert_eq!(std::fs::metadata(out.join("000000-00.png")).unwrap().modified().unwrap(), untouched);
    let again = image::load_from_memory(&before).unwrap().to_rgb8();
    assert!(furthest(&again, &rgb(&out.join("000000-01.png"))) <= LEVELS);
}

#[test]
fn a_signal_stops_after_the_picture_in_hand_and_resume_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_diffpref"));
    command.args([
        "generate",
        "--prompt",
        "a cat",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--num-images",
        "500",
        "--model",
    ]);
    command.arg(golden().join("model")).arg("--out").arg(&out).env("HOME", dir.path()).env("OMP_NUM_THREADS", "1");
    let mut child = command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let started = std::time::Instant::now();
    while !out.join("000000-01.png").is_file() && started.elapsed().as_secs() < 120 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // SAFETY: the child is alive or a zombie that is waited for below; its id is not reused.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let made = index(&out).len();
    assert!((2..500).contains(&made), "{made}");
    let pictures =
        std::fs::read_dir(&out).unwrap().filter(|e| e.as_ref().unwrap().path().extension().unwrap() == "png");
    assert_eq!(pictures.count(), made);
    let more = (made + 1).to_string();
    let resume = [
        "generate",
        "--resume",
        "--prompt",
        "a cat",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--num-images",
        &more,
        "--json",
        "--model",
    ];
    let mut command = Command::cargo_bin("diffpref").unwrap();
    command.args(resume).arg(golden().join("model")).arg("--out").arg(&out).env("HOME", dir.path());
    let report: Value = serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap();
    assert_eq!((&report["painted"], &report["skipped"]), (&1.into(), &made.into()));
}

/// Asks to stop as soon as a step is said, and remembers what was said.
struct StopAt<'a> {
    step: &'a str,
    stop: &'a Stop,
    said: std::cell::RefCell<Vec<String>>,
}

impl Progress for StopAt<'_> {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, note: &str) {
        self.said.borrow_mut().push(note.to_string());
        if note == self.step {
            self.stop.request(Signal::Terminate);
        }
    }
    fn end(&self) {}
    fn line(&self, _: &str) {}
}

#[test]
fn a_signal_stops_between_two_steps_of_a_picture() {
    let folder = ModelFolder::open(&golden().join("model")).unwrap();
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
    let memory = PromptMemory::new(folder.load_text(&options).unwrap(), 0, folder.empty_side());
    let (denoiser, vae) = (folder.load_denoiser(None, &options).unwrap(), folder.load_vae(None, &options).unwrap());
    let painter = Painter {
        denoiser: &denoiser,
        negative_network: None,
        vae: &vae,
        scheduler: folder.scheduler(),
        conditioning: Box::new(|prompt| memory.conditioning(prompt)),
        negative: Box::new(|prompt| memory.negative(prompt)),
        device: options.device,
        kind: options.kind,
    };
    let stop = Stop::default();
    let progress = StopAt { step: "step 3/50", stop: &stop, said: Default::default() };
    let look = Look { width: 32, height: 32, batch: 2, ..Look::default() };
    let pictures = [0, 1, 2].map(|seed| Picture { prompt: "a cat", seed });
    let mut finished = |_, _| panic!("no picture is finished");
    let error = painter.paint(&pictures, &look, None, &progress, &stop, &mut finished).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Stopped(Signal::Terminate))), "{error}");
    assert_eq!(*progress.said.borrow(), ["step 1/50", "step 2/50", "step 3/50"]);
}

#[test]
fn a_folder_with_pictures_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    paint(out, &[]).assert().success();
    let plain = refused(&mut paint(out, &[]), 1, out);
    assert!(plain.contains("DIR holds pictures already"), "{plain}");
    let other = refused(&mut paint(out, &["--resume", "--guidance-scale", "3"]), 1, out);
    assert!(
        other.contains("DIR/000000-00.png was made with another guidance_scale: 7.5 there, 3.0 asked for"),
        "{other}"
    );
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::copy(golden().join("plain-5.png"), foreign.join("000000-00.png")).unwrap();
    let foreign = refused(&mut paint(&foreign, &["--resume"]), 1, out);
    assert!(foreign.contains("foreign/000000-00.png is in the way"), "{foreign}");
}

#[test]
fn wrong_arguments_exit_with_2_and_name_the_option() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let cases: [(&[&str], &str); 10] = [
        (&["--width", "33"], "--width 33: expected a multiple of 2, the VAE's factor; try 32 or 34"),
        (&["--width", "9223372036854775806"], "--width 9223372036854775806: expected at most 16384 pixels"),
        (&["--height", "16386"], "--height 16386: expected at most 16384 pixels"),
        (&["--steps", "0"], "--steps 0: 0 sampling steps: expected 1 to 1000"),
        (&["--eta", "1.5"], "--eta 1.5: expected 0"),
        (&["--guidance-scale", "-1"], "--guidance-scale -1: expected a number from 0 up"),
        (&["--scheduler", "lms"], "[possible values: auto, pndm, ddim, dpmpp_2m, euler, euler_a]"),
        (&["--device", "tpu"], "--device tpu: expected auto, cpu, cuda or cuda:N"),
        (&["--lora", ":0.5"], "expected FILE or FILE:scale"),
        (&["--seed", "18446744073709551615"], "--seed 18446744073709551615: with --num-images it passes 2^63 - 1"),
    ];
    for (arguments, message) in cases {
        let text = refused(&mut paint(&out, arguments), 2, dir.path());
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
    assert!(!out.exists(), "nothing is made before the arguments are checked");
    let none = refused(generate(&["--model", "x", "--out"]).arg(&out), 2, dir.path());
    assert!(none.contains("--prompt"), "{none}");
}

#[test]
fn a_model_of_another_form_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let with = |model: &Path| {
        let mut command = generate(&["--prompt", "a cat", "--out"]);
        command.arg(dir.path().join("out")).arg("--model").arg(model);
        command
    };
    let file = dir.path().join("model.safetensors");
    std::fs::write(&file, "x").unwrap();
    let single = refused(&mut with(&file), 1, dir.path());
    assert!(single.contains("DIR/model.safetensors: the file is truncated: it has only 1 bytes"), "{single}");
    let copy = dir.path().join("model");
    support::copy(&golden().join("model"), &copy);
    std::fs::remove_dir_all(copy.join("vae")).unwrap();
    let part = refused(&mut with(&copy), 1, dir.path());
    assert!(part.contains("DIR/model has no component folder vae/"), "{part}");
    // What is left of a model whose middle block was distilled away.
    let distilled = dir.path().join("distilled");
    support::copy(&golden().join("model"), &distilled);
    let weights = distilled.join("unet/diffusion_pytorch_model.safetensors");
    let file = pipelines::weights::TensorFile::open(&weights).unwrap();
    let kept = file.names().filter(|name| !name.starts_with("mid_block."));
    let kept: Vec<_> = kept.map(|name| (name.to_string(), file.tensor(name).unwrap().copy())).collect();
    drop(file);
    pipelines::weights::write_safetensors(&weights, &kept, &[]).unwrap();
    let distilled = refused(&mut with(&distilled), 1, dir.path());
    assert!(
        distilled.contains("this is a distilled model (SSD-1B, Vega, KOALA, BK-SDM), or a damaged one"),
        "{distilled}"
    );
    assert!(distilled.contains("mid_block.attentions.0"), "{distilled}");
    let names: Vec<_> = support::names(dir.path());
    assert!(!support::names(&dir.path().join("out")).iter().any(|name| name.ends_with(".png")), "{names:?}");
}

#[test]
fn an_output_that_cannot_be_written_is_named_and_nothing_half_written_stays() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let below = refused(&mut paint(&dir.path().join("file/out"), &[]), 1, dir.path());
    assert!(below.contains("cannot make the output folder DIR/file/out"), "{below}");

    let mut compared = paint(&dir.path().join("file/out"), &["--compare", "a=", "b="]);
    let compared = refused(&mut compared, 1, dir.path());
    assert!(compared.contains("cannot make the output folder DIR/file/out"), "{compared}");
    assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"x", "what is there stays");

    let out = dir.path().join("full");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_diffpref"));
    command
        .args(["generate", "--prompt", "a cat", "--steps", "1", "--device", "cpu", "--model"])
        .arg(golden().join("model"));
    command.arg("--out").arg(&out).env("HOME", dir.path()).env("OMP_NUM_THREADS", "1");
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 1500, rlim_max: 1500 };
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            Ok(())
        });
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("000000-00.png") && text.contains("File too large"), "{text}");
    let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "no half-written picture stays, and nothing that keeps the next call out: {left:?}");
}
