//! `[sample] scheduler`: grids of a run are sampled as `generate` samples, and what does not fit the model is refused.

use crate::support::golden;
use assert_cmd::Command;
use image::{Rgb, RgbImage};
use std::path::{Path, PathBuf};

fn tiny() -> PathBuf {
    golden("generate/model")
}

/// A run of one step with two pairs; its grid shows "a cat" at seed 5 with 4 steps.
fn config(dir: &Path, scheduler: &str) -> PathBuf {
    for (file, level) in [("w.png", 200), ("l.png", 20)] {
        RgbImage::from_pixel(32, 32, Rgb([level, 90, 120])).save(dir.join(file)).unwrap();
    }
    let row =
        |id: i64| format!("{{\"id\": {id}, \"prompt\": \"a cat\", \"winner\": \"w.png\", \"loser\": \"l.png\"}}\n");
    std::fs::write(dir.join("pairs.jsonl"), row(1) + &row(2)).unwrap();
    let text = format!(
        "[model]\npath = {:?}\ndevice = \"cpu\"\n[data]\npath = {:?}\ncache_dir = {:?}\n[validate]\nfraction = 0.0\n\
         [lora]\nrank = 2\n[optim]\nlr = 1e-4\n[train]\nout = {:?}\nsteps = 1\n\
         [sample]\nprompts = [\"a cat\"]\nseeds = [5]\nsteps = 4\nscheduler = {scheduler:?}\n",
        tiny(),
        dir.join("pairs.jsonl"),
        dir.join("cache"),
        dir.join("run")
    );
    let path = dir.join("config.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn diffpref(dir: &Path) -> Command {
    let mut command = Command::cargo_bin("diffpref").unwrap();
    command.env("HOME", dir).env("OMP_NUM_THREADS", "1");
    command
}

#[test]
fn a_grid_while_training_is_what_generate_paints_with_the_same_sampler() {
    for scheduler in ["ddim", "euler_a", "dpmpp_2m"] {
        let dir = tempfile::tempdir().unwrap();
        diffpref(dir.path()).arg("train").arg(config(dir.path(), scheduler)).assert().success();
        let mut generate = diffpref(dir.path());
        generate.args(["generate", "--prompt", "a cat", "--seed", "5", "--steps", "4", "--device", "cpu"]);
        generate.args(["--scheduler", scheduler, "--model"]).arg(tiny()).arg("--out").arg(dir.path().join("pictures"));
        generate.assert().success();
        // before training a LoRA adds nothing
        let read = |file: &str| image::open(dir.path().join(file)).unwrap().to_rgb8();
        let (grid, alone) = (read("run/samples/step-000000/00-5.png"), read("pictures/000000-00.png"));
        let levels = grid.as_raw().iter().zip(alone.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(levels <= 2, "{scheduler}: {levels}");
    }
}

#[test]
fn a_sampler_that_does_not_fit_the_model_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let assert = diffpref(dir.path()).arg("train").arg(config(dir.path(), "pndm")).assert().failure().code(2);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(text.contains("sample.scheduler = \"pndm\", sample.steps = 4: "), "{text}");
    assert!(text.contains("`skip_prk_steps` is not true"), "{text}");
    assert!(!dir.path().join("run").exists());
    let unknown = config(dir.path(), "lms");
    let assert = diffpref(dir.path()).arg("train").arg(unknown).assert().failure().code(2);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(text.contains("\"pndm\" | \"ddim\" | \"dpmpp_2m\" | \"euler\" | \"euler_a\""), "{text}");
}
