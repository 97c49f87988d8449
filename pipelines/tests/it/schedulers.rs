//! Noise schedules and DDIM against diffusers 0.42 (golden/make_schedulers.py, golden/make_transitions.py) and docs/methods.md
//! 21.1 to 21.3.

use crate::support::schedule::{assert_close, golden, read, rounds_as_golden, scalar, value, with};
use pipelines::schedulers::{
    Ddim, NoiseSchedule, Prediction, PredictionType, Sampler, SamplerOptions, SchedulerConfig, StochasticSampler,
    Transitions, ddim, log_prob,
};
use pipelines::{Levels, Process};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

fn golden_ddim() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden("ddim.json")).unwrap()).unwrap()
}

fn sampler(config: &SchedulerConfig, steps: i64, eta: f64) -> pipelines::Result<Ddim> {
    Ddim::new(config, steps, &SamplerOptions { eta, karras: None })
}

fn no_noise() -> Tensor {
    panic!("eta 0 draws no noise")
}

#[test]
fn alphas_cumprod_has_the_bits_of_diffusers() {
    let expected = Tensor::read_safetensors(golden("schedules.safetensors")).unwrap();
    let configs = golden_ddim()["schedules"].clone();
    assert_eq!(expected.len(), 5);
    for (name, expected) in expected {
        let schedule = NoiseSchedule::new(&read(&configs[&name]).unwrap());
        let found = schedule.alphas_cumprod();
        assert_eq!(found.size(), expected.size());
        assert_eq!(schedule.num_train_timesteps(), expected.size()[0]);
        let difference = (found - &expected).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{name}: {difference}");
        // Without AVX2 libtorch interpolates in another order; rescaling takes square roots.
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && (name != "zero_snr" || rounds_as_golden()) {
            assert!(found.equal(&expected), "{name}: differs by {difference}");
        }
    }
}

#[test]
fn the_schedule_table_of_the_methods_reference_holds() {
    let schedule = NoiseSchedule::new(&with(json!({})));
    let abar = |t: i64| schedule.alphas_cumprod().double_value(&[t]);
    let table = [
        (0, 0.99915000, 0.029167),
        (1, 0.99829603, 0.041314),
        (101, 0.89298054, 0.346187),
        (201, 0.75214340, 0.574050),
        (401, 0.42288152, 1.168216),
        (500, 0.27633268, 1.618279),
        (501, 0.27499907, 1.623692),
        (801, 0.03654652, 5.134431),
        (901, 0.01400490, 8.390685),
        (999, 0.00466010, 14.614641),
    ];
    for (t, expected, sigma) in table {
        assert_close(abar(t), expected, 8);
        let abar = schedule.alphas_cumprod_at(&Tensor::from_slice(&[t]));
        let snr = (&abar / (1f64 - &abar)).double_value(&[0]);
        // sigma^2 = 1 / SNR; 1 - abar near t = 0 has few digits left in float32
        assert!((snr.powf(-0.5) / sigma - 1.0).abs() < 5e-5, "t {t}: {}", snr.powf(-0.5));
    }
    let rescaled = NoiseSchedule::new(&with(json!({"rescale_betas_zero_snr": true})));
    let table =
        [(0, 0.99915000), (1, 0.99823345), (250, 0.65245702), (500, 0.24101878), (750, 0.03279912), (998, 0.00000020)];
    for (t, expected) in table {
        assert_close(rescaled.alphas_cumprod().double_value(&[t]), expected, 8);
    }
    assert_eq!(rescaled.alphas_cumprod().double_value(&[999]), 0.0);
}

#[test]
fn noise_to_signal_is_infinite_at_zero_terminal_snr_whatever_the_number_of_levels() {
    let schedule = NoiseSchedule::new(&with(json!({"rescale_betas_zero_snr": true})));
    for rows in [1, 2, 8, 16] {
        let found = schedule.noise_to_signal(&Levels::new(&vec![999.0; rows]));
        let found: Vec<f64> = found.iter::<f64>().unwrap().collect();
        assert!(found.iter().all(|x| *x == f64::INFINITY), "{rows} levels: {found:?}");
    }
}

#[test]
fn noise_velocity_and_recovery_agree_with_the_fixture() {
    let schedule = NoiseSchedule::new(&with(json!({})));
    let t = Tensor::from_slice(&[500i64]);
    let (x0, noise) = (scalar(0.8), scalar(-0.5));
    // A hundredth of what is subtracted: its sixth decimal hangs on the last bit of a square root.
    let digits = if rounds_as_golden() { 6 } else { 5 };
    assert_close(value(&schedule.add_noise(&x0, &noise, &t)), -0.004804, digits);
    assert_close(value(&schedule.velocity(&x0, &noise, &t)), -0.943386, 6);
    let double = schedule.add_noise(&x0.to_kind(Kind::Double), &noise.to_kind(Kind::Double), &t);
    assert_eq!(double.kind(), Kind::Double);
    // In float64, of the same abar, by hand.
    let abar = schedule.alphas_cumprod().double_value(&[500]);
    let exact = abar.sqrt() * f64::from(0.8f32) - (1.0 - abar).sqrt() * 0.5;
    assert!((value(&double) - exact).abs() < 1e-12, "{} instead of {exact}", value(&double));
    let two = Tensor::from_slice(&[500i64, 999]);
    let noisy = schedule.add_noise(&x0.expand([2, 4, 3, 3], false), &noise.expand([2, 4, 3, 3], false), &two);
    assert_eq!(noisy.size(), [2, 4, 3, 3]);
    assert_close(noisy.double_value(&[0, 3, 2, 2]), -0.004804, digits);
}

#[test]
fn ddim_steps_agree_with_the_fixtures() {
    let mut deterministic = sampler(&with(json!({})), 10, 0.0).unwrap();
    let call = |t: f64| deterministic.timesteps().iter().position(|known| *known == t).unwrap();
    let (at_501, at_1) = (call(501.0), call(1.0));
    let mut step =
        |call, x: f64, e: f64| value(&deterministic.step(call, &scalar(e).into(), &scalar(x), &mut no_noise));
    assert_close(step(at_501, 0.9, 0.3), 1.027199, 6);
    assert_close(step(at_1, 0.9, 0.3), 0.896742, 6);
    assert_close(step(at_501, 0.9, 2.45), 0.390384, 6);
    assert_close(step(at_501, 0.9, 2.9), 0.257097, 6);
    let mut stochastic = sampler(&with(json!({})), 10, 1.0).unwrap();
    let mut noisy = |x, e: f64, z| value(&stochastic.step(at_501, &scalar(e).into(), &scalar(x), &mut || scalar(z)));
    assert_close(noisy(0.9, 0.3, 0.7), 1.332593, 6);
    assert_close(noisy(-0.4, 0.1, -1.1), -1.127325, 6);
    let transition = |x, e: f64| stochastic.transition(at_501, &Prediction::from(scalar(e)), &scalar(x));
    assert_close(value(&transition(0.9, 0.3).mean), 0.963267, 6);
    assert_close(value(&transition(-0.4, 0.1).mean), -0.546955, 6);
    assert_close(transition(0.9, 0.3).std, 0.527609, 6);
    assert_close(f64::from(stochastic.variance(at_501)).sqrt(), 0.527609, 6);
    assert!((f64::from(stochastic.variance(at_1)).sqrt() - 0.020648).abs() < 1e-5);
    // x_p of exact predictions is the point on the way from x_0 = .8 to noise -.5
    let mut v = sampler(&with(json!({"prediction_type": "v_prediction"})), 10, 0.0).unwrap();
    let (x0, noise) = (scalar(0.8), scalar(-0.5));
    let schedule = NoiseSchedule::new(&with(json!({})));
    let at = |t: i64| schedule.add_noise(&x0, &noise, &Tensor::from_slice(&[t]));
    let velocity = schedule.velocity(&x0, &noise, &Tensor::from_slice(&[501i64]));
    assert_close(value(&v.step(at_501, &velocity.into(), &at(501), &mut no_noise)), value(&at(401)), 6);
}

#[test]
fn whole_ddim_chains_equal_diffusers() {
    let golden = golden_ddim();
    let chains = golden["chains"].as_array().unwrap();
    assert!(chains.len() >= 15);
    for chain in chains {
        let (steps, eta) = (chain["steps"].as_i64().unwrap(), chain["eta"].as_f64().unwrap());
        let mut ddim = sampler(&read(&chain["config"]).unwrap(), steps, eta).unwrap();
        let timesteps: Vec<f64> = serde_json::from_value(chain["timesteps"].clone()).unwrap();
        assert_eq!(ddim.timesteps(), timesteps, "{}", chain["config"]);
        let index = Tensor::arange(12, (Kind::Float, tch::Device::Cpu));
        let mut x = index.sin().view([1, 3, 2, 2]);
        for (s, t) in timesteps.into_iter().enumerate() {
            let network = &x * 0.3 + 0.001 * t - 0.2;
            x = ddim.step(s, &network.into(), &x, &mut || (&index + s as f64).cos().view([1, 3, 2, 2]));
        }
        let expected: Vec<f64> = serde_json::from_value(chain["x"].clone()).unwrap();
        let expected = Tensor::from_slice(&expected).view([1, 3, 2, 2]);
        let scale = expected.abs().max().double_value(&[]).max(1.0);
        let difference = (&x.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
        // From x_T without signal, DDPM's variance leaves the direction to x_p a weight of 0: rounding, whose root is 2e-4.
        let tolerance = if eta == 1.0 && chain["config"]["rescale_betas_zero_snr"] == true { 5e-4 } else { 1e-5 };
        assert!(difference / scale < tolerance, "{}, {steps} steps: {difference}", chain["config"]);
    }
}

/// A golden value of every row of a case, `[B, 3, 2, 2]`.
fn stacked(rows: &[Value], key: &str, kind: Kind) -> Tensor {
    let of_row = |row: &Value| serde_json::from_value::<Vec<f64>>(row[key].clone()).unwrap();
    let values: Vec<f64> = rows.iter().flat_map(of_row).collect();
    Tensor::from_slice(&values).view([-1, 3, 2, 2]).to_kind(kind)
}

#[test]
fn transitions_of_rows_at_different_calls_and_their_log_probabilities_equal_diffusers() {
    let text = std::fs::read_to_string(golden("transitions.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 8);
    for case in &cases {
        let rows = case["rows"].as_array().unwrap();
        let kind = if case["kind"] == "float64" { Kind::Double } else { Kind::Float };
        let tensor = |key: &str| stacked(rows, key, kind);
        let numbers =
            |key: &str| Tensor::from_slice(&rows.iter().map(|r| r[key].as_f64().unwrap()).collect::<Vec<_>>());
        let calls: Vec<usize> = rows.iter().map(|row| row["call"].as_u64().unwrap() as usize).collect();
        let ddim = sampler(&read(&case["config"]).unwrap(), case["steps"].as_i64().unwrap(), 1.0).unwrap();
        let (latents, guided) = (tensor("latents"), tensor("prediction").set_requires_grad(true));
        let prediction = Prediction::from(guided.shallow_clone());
        let Transitions { mean, std } = ddim.transitions(&calls, &prediction, &latents);
        assert_eq!((mean.kind(), std.kind()), (kind, Kind::Double), "{}", case["config"]);
        let check = |what: &str, found: &Tensor, expected: &Tensor| {
            let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
            let scale = expected.abs().max().double_value(&[]).max(1.0);
            let difference = (&found - &expected).abs().max().double_value(&[]) / scale;
            assert!(difference < 1e-5, "{what} of {} {}: {difference}", case["kind"], case["config"]);
        };
        check("mean", &mean, &tensor("mean"));
        check("std", &std, &numbers("std"));
        let log_prob = log_prob(&mean, &std, &tensor("next"));
        check("log-probability", &log_prob, &numbers("log_prob"));
        let gradient = Tensor::run_backward(&[log_prob.sum(Kind::Double)], &[&guided], false, false).remove(0);
        check("gradient", &gradient, &tensor("gradient"));
        for (row, call) in calls.iter().enumerate() {
            let one = |t: &Tensor| t.detach().narrow(0, row as i64, 1);
            let prediction = Prediction::from(one(&guided));
            let alone = ddim.transition(*call, &prediction, &one(&latents));
            assert!(alone.mean.equal(&one(&mean)), "a row's transition is that of the row alone");
            assert_eq!(alone.std, std.double_value(&[row as i64]));
            check("x_0", &ddim.x0(*call, &prediction, &one(&latents)), &one(&tensor("x0")));
        }
    }
}

#[test]
fn the_log_probability_of_a_step_is_the_mean_over_its_elements() {
    let ddim = sampler(&with(json!({})), 10, 1.0).unwrap();
    let at_501 = ddim.timesteps().iter().position(|t| *t == 501.0).unwrap();
    let two = |a: f64, b: f64| Tensor::from_slice(&[a, b]).view([1, 2, 1, 1]);
    let (latents, noise) = (two(0.9, -0.4), two(0.7, -1.1));
    let transitions = |a, b| ddim.transitions(&[at_501], &two(a, b).into(), &latents);
    let sampled = transitions(0.3, 0.1);
    let next = &sampled.mean + noise * sampled.std.view([1, 1, 1, 1]);
    let log_prob = |of: Transitions| log_prob(&of.mean, &of.std, &next).double_value(&[0]);
    let (old, new) = (log_prob(sampled), log_prob(transitions(0.31, 0.08)));
    assert_close(old, -0.704539, 6);
    assert_close(new, -0.718652, 6);
    assert_close(new - old, -0.014113, 6);
}

#[test]
fn gradients_of_log_probabilities_equal_finite_differences() {
    for prediction_type in ["epsilon", "v_prediction"] {
        let ddim = sampler(&with(json!({"prediction_type": prediction_type})), 20, 1.0).unwrap();
        let index = Tensor::arange(24, (Kind::Double, tch::Device::Cpu));
        let [latents, guided, next] = [0.3, 0.7, 1.1].map(|step| (&index * step).sin().view([2, 3, 2, 2]));
        let log_prob = |guided: &Tensor| {
            let Transitions { mean, std } = ddim.transitions(&[3, 17], &guided.shallow_clone().into(), &latents);
            log_prob(&mean, &std, &next)
        };
        let leaf = guided.copy().set_requires_grad(true);
        log_prob(&leaf).sum(Kind::Double).backward();
        for i in 0..24 {
            let moved = |by: f64| {
                let out = guided.copy();
                let _ = out.view([-1]).get(i).f_add_scalar_(by).unwrap();
                log_prob(&out).sum(Kind::Double).double_value(&[])
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            let found = leaf.grad().view([-1]).double_value(&[i]);
            assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{prediction_type}: {found} {expected}");
        }
    }
}

#[test]
fn keys_a_file_lacks_take_the_defaults_of_the_class_that_is_built() {
    let last_timestep = |config: &Value| sampler(&read(config).unwrap(), 10, 0.0).unwrap().timesteps()[9];
    let clips = |config: &Value| ddim::clips_latents(&read(config).unwrap());
    let foreign = json!({"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "skip_prk_steps": true});
    assert_eq!(last_timestep(&foreign), 0.0, "steps_offset 0 is DDIM's default");
    assert!(clips(&foreign));
    let own = json!({"_class_name": "DDIMScheduler"});
    assert_eq!(last_timestep(&own), 1.0, "the pipeline forces steps_offset 1 on its own scheduler");
    assert!(!clips(&own));
    let stated = json!({"_class_name": "PNDMScheduler", "steps_offset": 0, "clip_sample": true});
    assert_eq!((last_timestep(&stated), clips(&stated)), (1.0, false));
    assert_eq!(read(&foreign).unwrap().prediction_type, PredictionType::Epsilon);
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    let refused = |key: &str, value: Value| {
        let error = read(&json!({"_class_name": "DDIMScheduler", key: value})).unwrap_err().to_string();
        assert!(error.contains(&format!("scheduler_config.json: `{key}` is")), "{error}");
        error
    };
    assert!(refused("beta_schedule", json!("sigmoid")).contains("\"sigmoid\", which is not implemented"));
    refused("prediction_type", json!("sample"));
    refused("timestep_spacing", json!("karras"));
    refused("num_train_timesteps", json!(0));
    refused("beta_end", json!(1.5));
    refused("trained_betas", json!([0.1, 0.2]));
    assert!(read(&json!({})).unwrap_err().to_string().contains("`_class_name` is missing"));
    let thresholding = read(&json!({"_class_name": "DDIMScheduler", "thresholding": true})).unwrap();
    assert!(sampler(&thresholding, 10, 0.0).unwrap_err().to_string().contains("`thresholding` is true"));
    let past = sampler(&with(json!({})), 1000, 0.0).unwrap_err().to_string();
    assert!(past.contains("visit timestep 1000, the model has 0 to 999; take fewer"), "{past}");
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = SchedulerConfig::read(dir.path()).unwrap_err().to_string();
    assert!(missing.contains("has no scheduler_config.json"), "{missing}");
    std::fs::write(dir.path().join("scheduler_config.json"), "{\"beta_start\": \"x\"}").unwrap();
    let broken = SchedulerConfig::read(dir.path()).unwrap_err().to_string();
    assert!(broken.contains("scheduler_config.json is not valid JSON"), "{broken}");
}
