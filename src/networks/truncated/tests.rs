//! Truncated rollouts against the fixtures of docs/methods.md 21.10, with the exact network of section 21.

use super::*;
use crate::data::batches::BatchItem;
use crate::objectives::{Objective, REGISTRY, numbers};
use pipelines::LevelRange;
use pipelines::schedulers::{NoiseSchedule, PredictionType, SchedulerConfig};
use tch::{Device, Kind};

const CPU: Machine = Machine { device: Device::Cpu, compute: Kind::Double, master: Kind::Double };

fn schedule(prediction_type: &str) -> NoiseSchedule {
    let text = format!(
        r#"{{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "{prediction_type}"}}"#
    );
    NoiseSchedule::new(&SchedulerConfig::parse(std::path::Path::new("scheduler_config.json"), &text).unwrap())
}

/// Rows `[R, 1, 1, 1]` of one number each.
fn rows(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).reshape([-1, 1, 1, 1])
}

fn values(t: &Tensor) -> Vec<f64> {
    numbers(&t.flatten(0, -1))
}

/// A conditioning that encodes the spread c of its pictures for the exact network, one per row.
fn told(c: &[f64]) -> Conditioning {
    Conditioning::of_prompt(Tensor::from_slice(c).reshape([-1, 1, 1]))
}

fn truncating(guidance: f64) -> Truncating {
    let draws = Draws { seed: 3, draws_per_pair: 0, range: LevelRange::Steps(1000) };
    Truncating { start: Start::Data, steps: 5, guidance, draws, empty: told(&[0.7]) }
}

/// eps*(x, t; c) of docs/methods.md 21, the exact network for data N(0, c^2), in the parameterisation of `schedule`.
fn exact(schedule: &NoiseSchedule, x: &Tensor, t: &Levels, told: &Conditioning) -> Tensor {
    let abar =
        schedule.alphas_cumprod_at(&t.tensor().to_kind(Kind::Int64)).to_kind(Kind::Double).reshape([-1, 1, 1, 1]);
    let c = told.get("prompt_embeds").unwrap().reshape([-1, 1, 1, 1]);
    let sigma = (1f64 - &abar).sqrt();
    let epsilon = &sigma * x / (&abar * c.square() + sigma.square());
    match schedule.prediction_type() {
        PredictionType::Epsilon => epsilon,
        PredictionType::VPrediction => (epsilon - sigma * x) / abar.sqrt(),
    }
}

/// x_319, target, x_s, f and loss of docs/methods.md 21.10: from t_12 = 519 to s = 640 with noise -.9.
fn fixture(guidance: f64, prediction_type: &str) -> [f64; 5] {
    let schedule = schedule(prediction_type);
    let predict = |x: &Tensor, t: &Levels, told: &Conditioning| Ok(exact(&schedule, x, t, told));
    let (network, truncating) = (Network { process: &schedule, predict: &predict }, truncating(guidance));
    let start = Place { latents: rows(&[1.0]), levels: vec![truncating.level(12)] };
    let end = truncating.denoise(&network, start, &told(&[0.5])).unwrap();
    assert_eq!(end.levels, [319.0]);
    let target = truncating.guided(&network, &end.latents, &end.levels, &told(&[0.5])).unwrap().x0;
    let latents = noised_again(&network, &end, &[640.0], &rows(&[-0.9]));
    let rollout = Truncated { latents, levels: vec![640.0], target };
    let residuals = residuals(&network, &rollout, &told(&[0.5])).unwrap();
    let entry = REGISTRY.iter().find(|entry| entry.name == "self_npo").unwrap();
    let Objective::Residuals(method) = entry.method(&"huber_c = 0.001".parse().unwrap(), None).unwrap().objective
    else {
        panic!()
    };
    let f = &residuals + &rollout.target;
    let numbers = [&end.latents, &rollout.target, &rollout.latents, &f, &method.losses(&residuals)];
    numbers.map(|t| values(t)[0])
}

/// docs/methods.md 21.10
#[test]
fn rollouts_end_and_are_compared_as_in_the_fixtures() {
    #[rustfmt::skip]
    let cases = [
        (-1.0, [0.898556, 0.460102, -0.367583, -0.035867, 0.494970]),
        (-5.0, [1.156671, 1.473827, -0.245428, -0.023948, 1.496775]),
    ];
    for (guidance, expected) in cases {
        for prediction_type in ["epsilon", "v_prediction"] {
            let found = fixture(guidance, prediction_type);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1.5e-6, "{guidance} {prediction_type}: {found} {expected}");
            }
        }
    }
}

/// docs/methods.md 21.10
#[test]
fn levels_of_the_grid_equal_the_fixtures() {
    let truncating = truncating(-1.0);
    assert_eq!([0, 1, 12, 24].map(|i| truncating.level(i)), [39.0, 79.0, 519.0, 999.0]);
    assert_eq!([999.0, 79.0, 39.0].map(|t| truncating.below(t)), [959.0, 39.0, 0.0]);
}

#[test]
fn rows_that_run_out_of_the_grid_stay_at_level_0_and_others_go_on() {
    let schedule = schedule("epsilon");
    let asked = std::cell::RefCell::new(Vec::new());
    let predict = |x: &Tensor, t: &Levels, told: &Conditioning| {
        asked.borrow_mut().push(t.values());
        Ok(exact(&schedule, x, t, told))
    };
    let (network, truncating) = (Network { process: &schedule, predict: &predict }, truncating(-1.0));
    let start = || Place { latents: rows(&[1.0, -0.4, 0.8]), levels: vec![519.0, 39.0, 79.0] };
    let end = truncating.denoise(&network, start(), &told(&[0.5; 3])).unwrap();
    assert_eq!(end.levels, [319.0, 0.0, 0.0]);
    assert_eq!(*asked.borrow(), [vec![519.0, 39.0, 79.0], vec![479.0, 39.0], vec![439.0], vec![399.0], vec![359.0]]);
    // Each row is where it would be alone.
    for (row, (x, level)) in [(1.0, 519.0), (-0.4, 39.0), (0.8, 79.0)].into_iter().enumerate() {
        let alone = Place { latents: rows(&[x]), levels: vec![level] };
        let alone = truncating.denoise(&network, alone, &told(&[0.5])).unwrap();
        assert_eq!(values(&alone.latents)[0], values(&end.latents)[row]);
    }
}

fn batch(ids: &[&str]) -> Batch {
    let item =
        |(row, id): (usize, &&str)| BatchItem { id: id.to_string(), rows: vec![row as i64], ..BatchItem::default() };
    let n = ids.len();
    let noise: Vec<f64> = (0..n).map(|i| 0.3 - i as f64).collect();
    Batch {
        items: ids.iter().enumerate().map(item).collect(),
        latents: rows(&vec![0.5; n]),
        noise: rows(&noise),
        levels: Levels::same(0.0, n as i64, Device::Cpu),
        conditioning: told(&vec![0.5; n]),
    }
}

#[test]
fn rollouts_from_noise_start_at_the_last_level_and_those_from_data_at_one_of_their_own() {
    let schedule = schedule("epsilon");
    let (mut truncating, batch) = (truncating(-1.0), batch(&["a", "b", "c", "d"]));
    let start = truncating.begin(&schedule, CPU, &batch).unwrap();
    assert!(start.levels.iter().all(|t| (t + 1.0) % 40.0 == 0.0 && (39.0..=999.0).contains(t)), "{:?}", start.levels);
    assert!(start.levels.iter().any(|t| *t != start.levels[0]), "{:?}", start.levels);
    let abar = |t: f64| schedule.alphas_cumprod().double_value(&[t as i64]);
    for (row, x) in values(&start.latents).into_iter().enumerate() {
        let abar = abar(start.levels[row]);
        let expected = abar.sqrt() * 0.5 + (1.0 - abar).sqrt() * (0.3 - row as f64);
        assert!((x - expected).abs() < 1e-7, "{x} {expected}");
    }
    truncating.start = Start::Noise;
    let start = truncating.begin(&schedule, CPU, &batch).unwrap();
    assert_eq!((start.levels, values(&start.latents)), (vec![999.0; 4], values(&batch.noise)));
}

#[test]
fn rows_are_noised_to_levels_above_their_own_whatever_is_beside_them() {
    let truncating = truncating(-1.0);
    let levels = |ids: &[&str], levels: &[f64]| {
        let end = Place { latents: rows(&vec![0.5; ids.len()]), levels: levels.into() };
        let (above, noise) = truncating.levels_above(&batch(ids), &end).unwrap();
        (above, values(&noise))
    };
    let (above, noise) = levels(&["a", "b", "c"], &[0.0, 319.0, 998.0]);
    assert!((1.0..1000.0).contains(&above[0]) && (320.0..1000.0).contains(&above[1]) && above[2] == 999.0, "{above:?}");
    assert_eq!(levels(&["b"], &[319.0]), (vec![above[1]], vec![noise[1]]));
}

#[test]
fn noise_added_again_makes_latents_of_the_variance_of_their_level() {
    let schedule = schedule("epsilon");
    let predict = |_: &Tensor, _: &Levels, _: &Conditioning| -> Result<Tensor> { panic!("not asked") };
    let network = Network { process: &schedule, predict: &predict };
    let abar = |t: f64| schedule.alphas_cumprod().double_value(&[t as i64]);
    for (t, s) in [(0.0, 1.0), (319.0, 640.0), (799.0, 999.0)] {
        let from = Place { latents: rows(&[1.0]), levels: vec![t] };
        let mean = values(&noised_again(&network, &from, &[s], &rows(&[0.0])))[0];
        let spread = values(&noised_again(&network, &from, &[s], &rows(&[1.0])))[0] - mean;
        // x_t = a_t x_0 + s_t e, so that x_s = a_s x_0 + noise of variance s_s^2.
        let variance = mean.powi(2) * (1.0 - abar(t)) + spread.powi(2);
        assert!((mean - (abar(s) / abar(t)).sqrt()).abs() < 1e-7, "{t} {s}: {mean}");
        assert!((variance - (1.0 - abar(s))).abs() < 1e-7, "{t} {s}: {variance}");
    }
}
