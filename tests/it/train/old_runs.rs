//! Runs of the last release, cut at their second step (tests/golden/runs-of-0.1): today's program resumes each and renders its
//! report.

use crate::support::{copy, diffpref, distance, metrics, succeeds, tensors};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runs-of-0.1").join(name)
}

/// A copy of the run to write in.
fn cut(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy(&golden(name).join("run"), &run);
    let whole = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let first: String = whole.lines().take(2).map(|line| format!("{line}\n")).collect();
    std::fs::write(run.join("metrics.jsonl"), first).unwrap();
    (dir, run)
}

fn assert_resumes(name: &str) {
    let (dir, run) = cut(name);
    let config = golden(name).join("run.toml");
    let sets = [
        format!("train.out={}", run.display()),
        format!("data.cache_dir={}", dir.path().join("cache").display()),
        "data.workers=2".into(),
    ];
    let mut command = diffpref();
    command.arg("train").arg(config).arg("--resume").current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(sets.iter().flat_map(|set| ["--set", set]));
    succeeds(&mut command);
    let (found, expected) = (metrics(&run), metrics(&golden(name).join("run")));
    assert_eq!(found.len(), 4, "{name}");
    for (found, expected) in found.iter().zip(&expected) {
        for key in ["step", "loss", "lr", "beta", "grad_norm", "model_mse_w", "divergence_smoothed", "kl"] {
            let (a, b) = (found.get(key), expected.get(key));
            assert_eq!(a.is_some(), b.is_some(), "{name} {key}");
            let Some((a, b)) = a.zip(b) else { continue };
            // Processors round differently.
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-3 * b.abs().max(1e-5), "{name} {key}: {a} is not {b}");
        }
    }
    let whole = tensors(&golden(name).join("final.safetensors"));
    assert!(distance(&tensors(&run.join("final/pytorch_lora_weights.safetensors")), &whole) < 1e-4, "{name}");
}

fn assert_renders(name: &str) {
    let (_dir, run) = cut(name);
    diffpref::report::render(&run, diffpref::report::Evaluations::default()).unwrap();
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("2 of 4") || page.contains("step 2"), "{name}");
}

#[test]
fn a_lora_run_of_dpo_with_adaptive_beta_resumes() {
    assert_resumes("dpo");
}

#[test]
fn a_run_of_kto_with_ema_and_moved_reference_resumes() {
    assert_resumes("kto");
}

#[test]
fn reports_of_old_runs_are_rendered() {
    assert_renders("dpo");
    assert_renders("kto");
}
