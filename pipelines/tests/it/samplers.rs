//! Every sampler against diffusers 0.42 (golden/make_samplers.py) and docs/methods.md 21.3, 21.4.

use crate::support::schedule::{abar, assert_close, exact, golden, read, rounds_as_golden, scalar, value, with};
use pipelines::sampling::{Guidance, guided};
use pipelines::schedulers::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// float32 sums in another order, over up to a thousand steps, relative to the largest latent of a call.
const TOLERANCE: f64 = 2e-5;
/// Euler's first step at zero terminal SNR takes latents of some 4096 down to a few: two units of their last place.
const OF_THE_START: f64 = 2e-7;

struct Case {
    name: String,
    config: SchedulerConfig,
    scheduler: &'static Scheduler,
    steps: i64,
    options: SamplerOptions,
    refused: bool,
}

fn cases() -> Vec<Case> {
    let listed: Value = serde_json::from_str(&std::fs::read_to_string(golden("samplers.json")).unwrap()).unwrap();
    let case = |case: &Value| {
        let mut file = listed["files"][case["file"].as_str().unwrap()].as_object().unwrap().clone();
        file.extend(case["changes"].as_object().unwrap().clone());
        file.retain(|key, value| key != "steps_offset" || !value.is_null());
        Case {
            name: case.to_string(),
            config: read(&Value::Object(file)).unwrap(),
            scheduler: Scheduler::by_name(case["scheduler"].as_str().unwrap()).unwrap(),
            steps: case["steps"].as_i64().unwrap(),
            options: SamplerOptions { eta: case["eta"].as_f64().unwrap_or(0.0), karras: case["karras"].as_bool() },
            refused: case["refused"].as_bool().unwrap(),
        }
    };
    listed["cases"].as_array().unwrap().iter().map(case).collect()
}

fn sampler(case: &Case) -> pipelines::Result<Box<dyn Sampler>> {
    case.scheduler.sampler(&case.config, case.steps, &case.options)
}

/// The latents before the first call and after every call, `[calls + 1, 12]`, with the made-up network.
pub(super) fn chain(sampler: &mut dyn Sampler) -> Tensor {
    let index = Tensor::arange(12, (Kind::Float, Device::Cpu));
    let shaped = |x: Tensor| x.view([1, 3, 2, 2]);
    let mut x = shaped(index.sin()) * sampler.init_noise_sigma();
    let mut seen = vec![x.view(12)];
    for (call, t) in sampler.timesteps().to_vec().into_iter().enumerate() {
        let network = sampler.scaled_input(call, &x) * 0.3 + 0.001 * t - 0.2;
        x = sampler.step(call, &network.into(), &x, &mut || shaped((&index + call as f64).cos()));
        seen.push(x.view(12));
    }
    Tensor::stack(&seen, 0)
}

fn largest(difference: Tensor) -> f64 {
    difference.abs().max().double_value(&[])
}

/// From x_T without signal, DDPM's variance leaves the direction to x_p a weight of 0: rounding, whose root is 2e-4.
fn rounding_of_ddpm(case: &Case) -> f64 {
    if case.options.eta == 1.0 && case.config.rescale_betas_zero_snr { 5e-4 } else { 0.0 }
}

#[test]
fn every_sampler_goes_where_that_of_diffusers_goes() {
    let golden: HashMap<String, Tensor> =
        Tensor::read_safetensors(golden("samplers.safetensors")).unwrap().into_iter().collect();
    let mut worst: HashMap<&str, f64> = HashMap::new();
    let cases = cases();
    assert!(cases.len() > 350);
    for (i, case) in cases.iter().enumerate() {
        let built = sampler(case);
        assert_eq!(built.is_err(), case.refused, "{}: {:?}", case.name, built.err());
        let Ok(mut sampler) = built else { continue };
        let timesteps: Vec<f64> = Vec::try_from(golden[&format!("timesteps.{i}")].to_kind(Kind::Double)).unwrap();
        assert_eq!(sampler.timesteps().len(), timesteps.len(), "{}", case.name);
        for (ours, theirs) in sampler.timesteps().iter().zip(&timesteps) {
            // Karras's levels are found by logarithms, whose last bits differ.
            let slack = if case.options.karras.is_some() || case.name.contains("karras") { 2e-4 } else { 0.0 };
            assert!((ours - theirs).abs() <= slack, "{}: {ours} {theirs}", case.name);
        }
        let found = chain(sampler.as_mut());
        let calls = timesteps.len() as i64;
        let mut kept: Vec<i64> = (0..=calls.min(6)).collect();
        if calls > 6 {
            kept.push(calls);
        }
        let expected = &golden[&format!("x.{i}")];
        let found = found.index_select(0, &Tensor::from_slice(&kept));
        let scale = expected.abs().amax([1i64].as_slice(), true).clamp_min(1.0);
        let start = expected.get(0).abs().max().double_value(&[]);
        let allowed = scale * TOLERANCE + start * OF_THE_START + rounding_of_ddpm(case);
        let off = largest((found - expected) / allowed);
        assert!(off < 1.0, "{}: {off} of what is allowed", case.name);
        let furthest = worst.entry(case.scheduler.name).or_default();
        *furthest = furthest.max(off);
    }
    eprintln!("largest deviations, as shares of what is allowed: {worst:?}");
    assert_eq!(worst.len(), SCHEDULERS.len());
}

#[test]
fn noise_levels_are_those_of_diffusers() {
    let golden: HashMap<String, Tensor> =
        Tensor::read_safetensors(golden("samplers.safetensors")).unwrap().into_iter().collect();
    let mut compared = 0;
    for (i, case) in cases().iter().enumerate() {
        let Some(expected) = golden.get(&format!("sigmas.{i}")) else { continue };
        let (config, steps, options) = (&case.config, case.steps, &case.options);
        let sigmas = match case.scheduler.name {
            "euler" => Euler::new(config, steps, options).unwrap().sigmas().to_vec(),
            "euler_a" => EulerAncestral::new(config, steps).unwrap().sigmas().to_vec(),
            _ => DpmSolverPlusPlus::new(config, steps, options).unwrap().sigmas().to_vec(),
        };
        let found = Tensor::from_slice(&sigmas);
        assert_eq!(found.size(), expected.size(), "{}", case.name);
        let off = largest((&found - expected) / expected.clamp_min(1e-3));
        let allowed = if case.name.contains("zero_snr") && !rounds_as_golden() { 2e-6 } else { 1e-6 };
        assert!(off < allowed, "{}: {off}", case.name);
        compared += 1;
    }
    assert!(compared > 150, "{compared}");
}

#[test]
fn trailing_spacing_has_as_many_timesteps_as_steps_whatever_their_number() {
    let config = with(json!({"timestep_spacing": "trailing"}));
    for scheduler in SCHEDULERS {
        let calls_beyond = usize::from(scheduler.name == "pndm");
        for n in 2..=1000usize {
            let sampler = scheduler.sampler(&config, n as i64, &SamplerOptions::default()).unwrap();
            assert_eq!(sampler.timesteps().len(), n + calls_beyond, "{scheduler:?} {n}");
            assert!(sampler.timesteps().iter().all(|t| (0.0..1000.0).contains(t)), "{scheduler:?} {n}");
        }
    }
}

/// A sampler of ten steps on Stable Diffusion's schedule.
pub(super) fn ten(name: &str, changes: Value) -> Box<dyn Sampler> {
    Scheduler::by_name(name).unwrap().sampler(&with(changes), 10, &SamplerOptions::default()).unwrap()
}

#[test]
fn timesteps_of_the_methods_reference_hold() {
    let leading = json!({"timestep_spacing": "leading"});
    let linspace = json!({"timestep_spacing": "linspace"});
    let trailing = json!({"timestep_spacing": "trailing"});
    let dpmpp = [901.0, 811.0, 721.0, 631.0, 541.0, 451.0, 361.0, 271.0, 181.0, 91.0];
    assert_eq!(ten("dpmpp_2m", leading.clone()).timesteps(), dpmpp);
    let dpmpp = [999.0, 899.0, 799.0, 699.0, 599.0, 500.0, 400.0, 300.0, 200.0, 100.0];
    assert_eq!(ten("dpmpp_2m", linspace.clone()).timesteps(), dpmpp);
    let pndm = [901.0, 801.0, 801.0, 701.0, 601.0, 501.0, 401.0, 301.0, 201.0, 101.0, 1.0];
    assert_eq!(ten("pndm", json!({})).timesteps(), pndm);
    let ddim = [901.0, 801.0, 701.0, 601.0, 501.0, 401.0, 301.0, 201.0, 101.0, 1.0];
    assert_eq!(ten("ddim", leading).timesteps(), ddim);
    let ddim = [999.0, 888.0, 777.0, 666.0, 555.0, 444.0, 333.0, 222.0, 111.0, 0.0];
    assert_eq!(ten("ddim", linspace.clone()).timesteps(), ddim);
    let ddim = [999.0, 899.0, 799.0, 699.0, 599.0, 499.0, 399.0, 299.0, 199.0, 99.0];
    assert_eq!(ten("ddim", trailing).timesteps(), ddim);
    let euler = Euler::new(&with(linspace), 8, &SamplerOptions::default()).unwrap();
    for (t, expected) in euler.timesteps().iter().zip([999.0, 856.285714, 713.571429]) {
        assert_close(*t, expected, 6);
    }
    for (sigma, expected) in euler.sigmas().iter().zip([14.614641, 6.678016, 3.522064]) {
        assert_close(f64::from(*sigma), expected, 6);
    }
}

#[test]
fn karras_levels_of_the_methods_reference_hold() {
    let karras = SamplerOptions { karras: Some(true), ..Default::default() };
    let expected = [14.614641, 4.796535, 1.274100, 0.247950, 0.029167, 0.0];
    let euler = Euler::new(&with(json!({})), 5, &karras).unwrap();
    let solver = DpmSolverPlusPlus::new(&with(json!({})), 5, &karras).unwrap();
    for (i, expected) in expected.into_iter().enumerate() {
        assert_close(f64::from(euler.sigmas()[i]), expected, 6);
        assert_close(f64::from(solver.sigmas()[i]), expected, 6);
    }
    for (t, expected) in euler.timesteps().iter().zip([999.0, 785.954, 427.489, 58.891, 0.0]) {
        assert!((t - expected).abs() < 1e-3, "{t} {expected}");
    }
    assert_eq!(solver.timesteps(), [999.0, 786.0, 427.0, 59.0, 0.0]);
}

pub(super) fn no_noise() -> Tensor {
    panic!("this sampler adds no noise")
}

#[test]
fn one_euler_step_agrees_with_the_fixtures() {
    let schedule = NoiseSchedule::new(&with(json!({})));
    let (from, to) = (abar(&schedule, 501), abar(&schedule, 401));
    let sigma = |abar: f64| ((1.0 - abar) / abar).sqrt() as f32;
    let grid = SigmaGrid { timesteps: vec![501.0], sigmas: vec![sigma(from), sigma(to)] };
    let z = scalar(0.9 / from.sqrt());
    assert_close(value(&z), 1.716236, 6);
    let step = |prediction_type, prediction: f64| {
        let mut euler = Euler::through(grid.clone(), prediction_type).unwrap();
        value(&euler.step(0, &scalar(prediction).into(), &z, &mut no_noise))
    };
    assert_close(step(PredictionType::Epsilon, 0.3), 1.579593, 6);
    assert_close(step(PredictionType::VPrediction, -0.889244), 1.579593, 5);
    let (up, down) = euler_a::split(sigma(from), sigma(to));
    assert_close(f64::from(up), 0.811340, 6);
    assert_close(f64::from(down), 0.840509, 6);
    // ancestral, noise .7, from the same z
    let next = value(&z) + 0.3 * f64::from(down - sigma(from)) + 0.7 * f64::from(up);
    assert_close(next, 2.049219, 6);
}

#[test]
fn two_dpm_solver_steps_agree_with_the_fixtures() {
    let schedule = NoiseSchedule::new(&with(json!({})));
    let sigma = |t: i64| ((1.0 - abar(&schedule, t)) / abar(&schedule, t)).sqrt() as f32;
    let grid = SigmaGrid { timesteps: vec![601.0, 501.0], sigmas: vec![sigma(601), sigma(501), sigma(401)] };
    let mut second = DpmSolverPlusPlus::through(grid.clone(), PredictionType::Epsilon).unwrap();
    let _ = second.step(0, &scalar(0.25).into(), &scalar(1.1), &mut no_noise);
    assert_close(value(&second.step(1, &scalar(0.3).into(), &scalar(0.9), &mut no_noise)), 0.944601, 6);
    let short = SigmaGrid { timesteps: vec![501.0], sigmas: grid.sigmas[1..].to_vec() };
    let mut first = DpmSolverPlusPlus::through(short, PredictionType::Epsilon).unwrap();
    assert_close(value(&first.step(0, &scalar(0.3).into(), &scalar(0.9), &mut no_noise)), 1.027199, 6);
}

#[test]
fn pndm_on_the_exact_network_agrees_with_the_fixture() {
    let schedule = NoiseSchedule::new(&with(json!({})));
    let mut pndm = ten("pndm", json!({}));
    let mut x = scalar(1.3);
    let mut seen = Vec::new();
    for (call, t) in pndm.timesteps().to_vec().into_iter().enumerate() {
        x = pndm.step(call, &exact(&schedule, &x, t as i64).into(), &x, &mut no_noise);
        seen.push(value(&x));
    }
    let expected = [1.287938, 1.289418, 1.265836, 1.226017, 1.163923, 1.080003];
    seen.iter().zip(expected).for_each(|(found, expected)| assert_close(*found, expected, 6));
    assert_close(seen[10], 0.628824, 6);
}

#[test]
fn guidance_agrees_with_the_fixtures() {
    assert_close(value(&guided(&scalar(0.2), &scalar(0.5), 7.5)), 2.45, 6);
    assert_close(value(&guided(&scalar(-0.1), &scalar(0.3), 7.5)), 2.9, 6);
    let row = |values: [f64; 4]| Tensor::from_slice(&values).to_kind(Kind::Float).view([1, 1, 2, 2]);
    let (positive, eps) = (row([0.5, -0.3, 0.1, 0.9]), row([1.6, -1.4, 0.2, 2.0]));
    // the negative side with which scale 2 gives eps: 2 positive - negative = eps
    let negative = &positive * 2.0 - &eps;
    let prediction = Guidance::ClassifierFree { scale: 2.0, rescale: 0.7 }.combine(&negative, &positive);
    assert!(prediction.renoise.is_none());
    let expected = [0.855425, -0.748497, 0.106928, 1.069281];
    for (found, expected) in Vec::<f32>::try_from(prediction.guided.view(-1)).unwrap().into_iter().zip(expected) {
        assert_close(f64::from(found), expected, 6);
    }
    // every picture of a batch is rescaled by itself
    let two = Guidance::ClassifierFree { scale: 2.0, rescale: 0.7 }
        .combine(&Tensor::cat(&[&negative, &(&negative * 3.0)], 0), &Tensor::cat(&[&positive, &positive], 0));
    assert!(largest(two.guided.narrow(0, 0, 1) - prediction.guided) < 1e-6);
}

#[test]
fn cfg_plus_plus_denoises_with_the_guided_and_noises_with_the_negative_prediction() {
    let mut ddim = ten("ddim", json!({}));
    let call = ddim.timesteps().iter().position(|t| *t == 501.0).unwrap();
    let prediction = || Guidance::PlusPlus { lambda: 0.4 }.combine(&scalar(0.2), &scalar(0.5));
    assert_close(value(&prediction().guided), 0.32, 6);
    assert_close(value(&ddim.step(call, &prediction(), &scalar(0.9), &mut no_noise)), 0.930113, 6);
    // the last step ends at x_hat: with eps .32 at t = 1
    let schedule = NoiseSchedule::new(&with(json!({})));
    let x0 = (0.9 - (1.0 - abar(&schedule, 1)).sqrt() * 0.32) / abar(&schedule, 1).sqrt();
    assert_close(value(&ddim.step(9, &prediction(), &scalar(0.9), &mut no_noise)), x0, 6);
    // v says the same in other words: v = (a x - x0)/s
    let mut by_velocity = ten("ddim", json!({"prediction_type": "v_prediction"}));
    let (a, s) = (abar(&schedule, 501).sqrt(), (1.0 - abar(&schedule, 501)).sqrt());
    let velocity = |eps: f64| scalar((a * 0.9 - (0.9 - s * eps) / a) / s);
    let prediction = Guidance::PlusPlus { lambda: 0.4 }.combine(&velocity(0.2), &velocity(0.5));
    assert_close(value(&by_velocity.step(call, &prediction, &scalar(0.9), &mut no_noise)), 0.930113, 5);
}
