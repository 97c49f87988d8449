//! Properties of every sampler: order of convergence, kind of the latents, and what is refused.

use super::samplers::{chain, no_noise, ten};
use crate::support::schedule::{abar, assert_close, exact, spread, value, with};
use pipelines::sampling::denoise;
use pipelines::schedulers::*;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// |error| against the exact flow of n steps 999 -> 1 from x = 1.3 on eps*.
fn flow_error(name: &str, n: i64) -> f64 {
    let schedule = NoiseSchedule::new(&with(json!({})));
    let levels: Vec<i64> = (0..=n).map(|i| (2 * (999 * n - 998 * i) + n).div_euclid(2 * n)).collect();
    let sigmas = levels.iter().map(|t| ((1.0 - abar(&schedule, *t)) / abar(&schedule, *t)).sqrt() as f32).collect();
    let timesteps = levels[..n as usize].iter().map(|t| *t as f64).collect();
    let grid = SigmaGrid { timesteps, sigmas };
    let mut sampler: Box<dyn Sampler> = match name {
        "ddim" => Box::new(Ddim::through(&schedule, &levels)),
        "euler" => Box::new(Euler::through(grid, PredictionType::Epsilon).unwrap()),
        _ => Box::new(DpmSolverPlusPlus::through(grid, PredictionType::Epsilon).unwrap()),
    };
    let root = |t: i64| abar(&schedule, t).sqrt();
    let (start, end) = if name == "euler" { (1.0 / root(999), root(1)) } else { (1.0, 1.0) };
    // the loop multiplies by the first noise level, which here is in the start already
    let start = Tensor::from_slice(&[1.3 * start / sampler.init_noise_sigma()]).view([1, 1, 1, 1]);
    let mut predict = |x: &Tensor, t: f64| Ok(exact(&schedule, x, t as i64).into());
    let x = denoise(sampler.as_mut(), start, &mut predict, &mut no_noise, &mut |_| true).unwrap().unwrap();
    assert_close(1.3 * spread(&schedule, 1) / spread(&schedule, 999), 0.652801, 6);
    (value(&x) * end - 1.3 * spread(&schedule, 1) / spread(&schedule, 999)).abs()
}

#[test]
fn samplers_converge_on_the_exact_flow_as_fast_as_the_fixture_says() {
    for (n, first_order, second_order) in [(20, 0.069001, 0.062794), (40, 0.036832, 0.027003), (80, 0.019036, 0.009606)]
    {
        for (name, expected) in [("ddim", first_order), ("euler", first_order), ("2m", second_order)] {
            let found = flow_error(name, n);
            assert!((found - expected).abs() < 3e-6, "{name} {n}: {found} {expected}");
        }
    }
}

#[test]
fn samplers_keep_the_kind_of_the_latents() {
    for scheduler in SCHEDULERS {
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half] {
            let mut sampler = scheduler.sampler(&with(json!({})), 4, &SamplerOptions::default()).unwrap();
            let mut x = Tensor::ones([2, 4, 2, 2], (kind, Device::Cpu)) * sampler.init_noise_sigma();
            for call in 0..sampler.timesteps().len() {
                let input = sampler.scaled_input(call, &x);
                assert_eq!(input.kind(), kind, "{scheduler:?}");
                let mut noise = || Tensor::ones([2, 4, 2, 2], (kind, Device::Cpu));
                x = sampler.step(call, &(input * 0.3).into(), &x, &mut noise);
                assert_eq!(x.kind(), kind, "{scheduler:?}");
            }
            assert!(x.isfinite().all().int64_value(&[]) == 1, "{scheduler:?} {kind:?}");
        }
    }
}

#[test]
fn what_a_sampler_cannot_do_is_refused_with_those_that_can() {
    let refusal = |name: &str, changes: Value, options: SamplerOptions| {
        let built = Scheduler::by_name(name).unwrap().sampler(&with(changes), 10, &options);
        built.err().unwrap_or_else(|| panic!("{name} was built")).to_string()
    };
    let eta = SamplerOptions { eta: 0.5, ..Default::default() };
    assert_eq!(refusal("euler_a", json!({}), eta), "euler_a has no eta; ddim has");
    let eta = SamplerOptions { eta: 1.5, ..Default::default() };
    assert!(refusal("ddim", json!({}), eta).contains("eta 1.5: expected 0"));
    let karras = SamplerOptions { karras: Some(true), ..Default::default() };
    for name in ["pndm", "ddim", "euler_a"] {
        let text = refusal(name, json!({}), karras);
        assert!(text.contains("Karras") && text.ends_with("; dpmpp_2m, euler have"), "{text}");
    }
    let plain = SamplerOptions::default();
    for name in ["ddim", "dpmpp_2m", "euler", "euler_a"] {
        let text = refusal(name, json!({"rescale_betas_zero_snr": true}), plain);
        assert!(text.contains("epsilon prediction with zero terminal SNR"), "{text}");
    }
    for (name, key, value) in [
        ("pndm", "skip_prk_steps", json!(false)),
        ("ddim", "thresholding", json!(true)),
        ("dpmpp_2m", "thresholding", json!(true)),
        ("dpmpp_2m", "algorithm_type", json!("sde-dpmsolver++")),
        ("dpmpp_2m", "solver_type", json!("heun")),
        ("dpmpp_2m", "solver_order", json!(3)),
        ("dpmpp_2m", "solver_order", json!("two")),
        ("dpmpp_2m", "use_lu_lambdas", json!(true)),
        ("dpmpp_2m", "final_sigmas_type", json!("half")),
        ("dpmpp_2m", "lambda_min_clipped", json!(-5.1)),
        ("dpmpp_2m", "variance_type", json!("learned_range")),
        ("euler", "use_beta_sigmas", json!(true)),
        ("euler", "interpolation_type", json!("log_linear")),
        ("euler", "use_karras_sigmas", json!("yes")),
    ] {
        let text = refusal(name, json!({key: value}), plain);
        assert!(text.contains(&format!("scheduler_config.json: `{key}` is ")), "{name} {key}: {text}");
    }
    let continuous = json!({"timestep_type": "continuous", "prediction_type": "v_prediction"});
    assert!(refusal("euler", continuous, plain).contains("`timestep_type` is \"continuous\""));
    for scheduler in SCHEDULERS {
        for steps in [0, -3, 1001] {
            let error = scheduler.sampler(&with(json!({})), steps, &plain).err().unwrap().to_string();
            assert!(error.contains(&format!("{steps} sampling steps: expected 1 to 1000")), "{error}");
        }
    }
}

#[test]
fn a_file_with_pythons_infinity_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "beta_schedule": "scaled_linear"}"#;
    std::fs::write(dir.path().join("scheduler_config.json"), text).unwrap();
    let config = SchedulerConfig::read(dir.path()).unwrap();
    assert!(Scheduler::of_class(&config.class_name).unwrap().sampler(&config, 5, &SamplerOptions::default()).is_ok());
}

#[test]
fn only_samplers_that_can_ignore_zero_terminal_snr_do() {
    let config = with(json!({"rescale_betas_zero_snr": true}));
    let ignoring: Vec<&str> = SCHEDULERS.iter().filter(|s| !s.takes_zero_terminal_snr).map(|s| s.name).collect();
    assert_eq!(ignoring, ["pndm"]);
    let plain = chain(ten("pndm", json!({})).as_mut());
    let mut ignored = Scheduler::by_name("pndm").unwrap().sampler(&config, 10, &SamplerOptions::default()).unwrap();
    assert!(chain(ignored.as_mut()).equal(&plain));
}
