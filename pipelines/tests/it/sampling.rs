//! The denoising loop with the network that is exact for data N(0, c^2) (docs/methods.md 21).

use crate::support::schedule::{exact, spread, with};
use pipelines::sampling::{denoise, to_bytes};
use pipelines::schedulers::{Ddim, NoiseSchedule, Sampler, SamplerOptions};
use serde_json::json;
use tch::{Device, Kind, Tensor};

fn ddim(steps: i64, eta: f64) -> Ddim {
    Ddim::new(&with(json!({})), steps, &SamplerOptions { eta, karras: None }).unwrap()
}

/// How far a chain of `steps` DDIM steps with the exact network ends from the exact flow, x' = x spread' / spread.
fn flow_error(steps: i64) -> f64 {
    let schedule = NoiseSchedule::new(&with(json!({})));
    let mut ddim = ddim(steps, 0.0);
    let start = Tensor::from_slice(&[1.0, -0.3, 2.0, 0.1]).view([1, 4, 1, 1]);
    let mut seen = 0;
    let result = denoise(
        &mut ddim,
        start.shallow_clone(),
        &mut |x, t| Ok(exact(&schedule, x, t as i64).into()),
        &mut || panic!("eta 0 draws no noise"),
        &mut |call| {
            assert_eq!(call, seen);
            seen += 1;
            true
        },
    );
    assert_eq!(seen as i64, steps);
    let factor = spread(&schedule, 0) / spread(&schedule, ddim.timesteps()[0] as i64);
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
    let schedule = NoiseSchedule::new(&with(json!({})));
    let mut generator = diffpref_native::Generator::cpu(3);
    let start = generator.randn(&[1, 4, 64, 64]);
    let mut draws = 0;
    let mut noise = || {
        draws += 1;
        generator.randn(&[1, 4, 64, 64])
    };
    let mut predict = |x: &Tensor, t: f64| Ok(exact(&schedule, x, t as i64).into());
    let result = denoise(&mut ddim(250, 1.0), start, &mut predict, &mut noise, &mut |_| true);
    assert_eq!(draws, 250);
    let std = result.unwrap().unwrap().std(true).double_value(&[]);
    assert!((std / 0.5 - 1.0).abs() < 0.03, "standard deviation {std}");
}

#[test]
fn a_callback_stops_the_loop() {
    let x = Tensor::zeros([1, 4, 2, 2], (Kind::Float, Device::Cpu));
    let mut calls = 0;
    let mut predict = |x: &Tensor, _| {
        calls += 1;
        Ok(x.shallow_clone().into())
    };
    let result = denoise(&mut ddim(10, 0.0), x, &mut predict, &mut || panic!("no noise"), &mut |call| call < 3);
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
