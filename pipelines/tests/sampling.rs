//! The denoising loop with the network that is exact for data N(0, c^2) (docs/methods.md 21).

use pipelines::sampling::{denoise, to_bytes};
use pipelines::schedulers::{Ddim, NoiseSchedule, SchedulerConfig};
use tch::{Device, Kind, Tensor};

const C2: f64 = 0.25;

fn config() -> SchedulerConfig {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "set_alpha_to_one": false, "clip_sample": false, "steps_offset": 1}"#;
    std::fs::write(dir.path().join("scheduler_config.json"), text).unwrap();
    SchedulerConfig::read(dir.path()).unwrap()
}

/// eps* = s_t x / (a_t^2 c^2 + s_t^2)
fn exact(schedule: &NoiseSchedule, x: &Tensor, t: i64) -> Tensor {
    let abar = schedule.alphas_cumprod().double_value(&[t]);
    x * ((1.0 - abar).sqrt() / (abar * C2 + 1.0 - abar))
}

fn spread(schedule: &NoiseSchedule, t: i64) -> f64 {
    let abar = schedule.alphas_cumprod().double_value(&[t]);
    (abar * C2 + 1.0 - abar).sqrt()
}

/// How far a chain of `steps` DDIM steps with the exact network ends from the exact flow, x' = x spread' / spread.
fn flow_error(steps: i64) -> f64 {
    let (config, schedule) = (config(), NoiseSchedule::new(&config()));
    let ddim = Ddim::new(&config, steps).unwrap();
    let start = Tensor::from_slice(&[1.0, -0.3, 2.0, 0.1]).view([1, 4, 1, 1]);
    let mut seen = 0;
    let result = denoise(
        &ddim,
        0.0,
        start.shallow_clone(),
        &mut |x, t| Ok(exact(&schedule, x, t)),
        &mut || panic!("eta 0 draws no noise"),
        &mut |step| {
            assert_eq!(step, seen);
            seen += 1;
            true
        },
    );
    assert_eq!(seen as i64, steps);
    let factor = spread(&schedule, 0) / spread(&schedule, ddim.timesteps()[0]);
    (result.unwrap().unwrap() - start * factor).abs().max().double_value(&[])
}

#[test]
fn ddim_follows_the_exact_flow_and_halves_its_error_with_twice_the_steps() {
    let errors = [125, 250, 500].map(flow_error);
    assert!(errors[2] < 1e-2, "{errors:?}");
    for pair in errors.windows(2) {
        let gain = pair[0] / pair[1];
        assert!((1.6..2.5).contains(&gain), "{errors:?}");
    }
}

#[test]
fn noise_is_drawn_once_a_step_where_eta_is_positive_and_keeps_the_spread() {
    let (config, schedule) = (config(), NoiseSchedule::new(&config()));
    let ddim = Ddim::new(&config, 250).unwrap();
    let mut generator = diffpref_native::Generator::cpu(3);
    let start = generator.randn(&[1, 4, 64, 64]);
    let mut draws = 0;
    let mut noise = || {
        draws += 1;
        generator.randn(&[1, 4, 64, 64])
    };
    let result = denoise(&ddim, 1.0, start, &mut |x, t| Ok(exact(&schedule, x, t)), &mut noise, &mut |_| true);
    assert_eq!(draws, 250);
    let std = result.unwrap().unwrap().std(true).double_value(&[]);
    assert!((std / C2.sqrt() - 1.0).abs() < 0.03, "standard deviation {std}");
}

#[test]
fn a_callback_stops_the_loop() {
    let ddim = Ddim::new(&config(), 10).unwrap();
    let x = Tensor::zeros([1, 4, 2, 2], (Kind::Float, Device::Cpu));
    let mut calls = 0;
    let mut predict = |x: &Tensor, _| {
        calls += 1;
        Ok(x.shallow_clone())
    };
    let result = denoise(&ddim, 0.0, x, &mut predict, &mut || panic!("no noise"), &mut |step| step < 3);
    assert!(result.unwrap().is_none());
    assert_eq!(calls, 4);
}

#[test]
fn pictures_are_rounded_half_to_even_and_clamped() {
    let values = [-2.0f32, -1.0, 0.0, 1.0, 5.0, 2.0 * (0.5 / 255.0) - 1.0];
    let image = Tensor::from_slice(&values).view([1, 1, 1, 6]).expand([1, 3, 1, 6], false);
    let bytes = to_bytes(&image).unwrap();
    assert_eq!(bytes.size(), [1, 1, 6, 3]);
    let red: Vec<u8> = Vec::try_from(bytes.select(3, 0).contiguous().view(-1)).unwrap();
    assert_eq!(red, [0, 0, 128, 255, 255, 0]);
}
