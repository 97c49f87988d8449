//! Scheduler files for tests, scalars as tensors, and the network that is exact for data N(0, c^2).

use pipelines::schedulers::{NoiseSchedule, SchedulerConfig};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

pub fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

/// A scheduler_config.json of these keys, read.
pub fn read(config: &Value) -> pipelines::Result<SchedulerConfig> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("scheduler_config.json"), config.to_string()).unwrap();
    SchedulerConfig::read(dir.path())
}

/// Stable Diffusion's schedule in a DDIM file, with `changes`.
pub fn with(changes: Value) -> SchedulerConfig {
    let mut config = json!({
        "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "set_alpha_to_one": false, "clip_sample": false, "steps_offset": 1, "skip_prk_steps": true
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    read(&config).unwrap()
}

pub fn scalar(x: f64) -> Tensor {
    Tensor::from_slice(&[x]).to_kind(Kind::Float).view([1, 1, 1, 1])
}

pub fn value(x: &Tensor) -> f64 {
    x.reshape([-1]).double_value(&[0])
}

/// Whether square roots round as on the processors that the golden files and printed fixtures were made on: MKL's last bit
/// differs by the maker.
pub fn rounds_as_golden() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("AuthenticAMD"))
}

/// float32: 1e-5 relative, and half a unit of the last printed digit.
pub fn assert_close(found: f64, printed: f64, digits: i32) {
    let tolerance = 1e-5 * printed.abs() + 0.5 * 10f64.powi(-digits);
    assert!((found - printed).abs() <= tolerance, "found {found}, expected {printed}");
}

/// eps* = s_t x / (a_t^2 c^2 + s_t^2), c = 0.5 (docs/methods.md 21); a negative t counts as 0.
pub fn exact(schedule: &NoiseSchedule, x: &Tensor, t: i64) -> Tensor {
    let abar = abar(schedule, t);
    x * ((1.0 - abar).sqrt() / (abar * 0.25 + 1.0 - abar))
}

/// The standard deviation of x_t for data N(0, 0.5^2): the exact flow keeps x_t in proportion to it.
pub fn spread(schedule: &NoiseSchedule, t: i64) -> f64 {
    let abar = abar(schedule, t);
    (abar * 0.25 + 1.0 - abar).sqrt()
}

pub fn abar(schedule: &NoiseSchedule, t: i64) -> f64 {
    schedule.alphas_cumprod().double_value(&[t.max(0)])
}
