//! DDIM inversion and ReNoise on the exact network (docs/methods.md 21.5), and DDIM inversion against diffusers 0.42.

use crate::support::schedule::{abar, assert_close, exact, golden, spread, value, with};
use pipelines::Levels;
use pipelines::inversion::{CorrectionLabel, Draw, Inversion};
use pipelines::schedulers::NoiseSchedule;
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// One correction per step, deterministic.
const RENOISE: Inversion = Inversion { corrections: 1, ..Inversion::DDIM };
const PUBLISHED: Inversion = Inversion { label: CorrectionLabel::Source, ..RENOISE };

fn schedule() -> NoiseSchedule {
    NoiseSchedule::new(&with(json!({})))
}

fn double(x: f64) -> Tensor {
    Tensor::from_slice(&[x]).view([1, 1, 1, 1])
}

fn no_noise(_: i64, _: usize) -> Tensor {
    panic!("eta 0 draws no noise")
}

type Predict<'a> = dyn FnMut(&Tensor, &Tensor, &[i64]) -> pipelines::Result<Tensor> + 'a;

/// Inversion along whole timesteps by a network that takes them as int64.
fn invert(
    schedule: &NoiseSchedule,
    method: Inversion,
    latents: &Tensor,
    levels: &[Vec<i64>],
    predict: &mut Predict,
    noise: &mut Draw,
) -> pipelines::Result<Tensor> {
    let levels: Vec<Vec<f64>> = levels.iter().map(|row| row.iter().map(|t| *t as f64).collect()).collect();
    let mut predict = |x: &Tensor, levels: &Levels, rows: &[i64]| {
        let timesteps = levels.tensor().to_kind(Kind::Int64);
        predict(x, &timesteps, rows)
    };
    pipelines::inversion::invert(schedule, method, latents, &levels, &mut predict, noise)
}

/// The exact network at the timestep of each row.
fn exact_rows(schedule: &NoiseSchedule, x: &Tensor, t: &Tensor) -> Tensor {
    let rows: Vec<Tensor> =
        (0..x.size()[0]).map(|row| exact(schedule, &x.narrow(0, row, 1), t.int64_value(&[row]))).collect();
    Tensor::cat(&rows, 0)
}

/// One number along `levels` with the exact network.
fn inverted(method: Inversion, x: f64, levels: &[i64]) -> f64 {
    let schedule = schedule();
    let mut predict = |x: &Tensor, t: &Tensor, _: &[i64]| Ok(exact_rows(&schedule, x, t));
    value(&invert(&schedule, method, &double(x), &[levels.to_vec()], &mut predict, &mut no_noise).unwrap())
}

/// Levels floor(i t / m + 1/2), i = 0 .. m.
fn even(t: i64, m: i64) -> Vec<i64> {
    (0..=m).map(|i| (2 * i * t + m) / (2 * m)).collect()
}

#[test]
fn inversions_reach_the_exact_flow_as_closely_as_the_fixture_says() {
    let schedule = schedule();
    let flow = |t| 1.3 * spread(&schedule, t) / spread(&schedule, 0);
    assert_close(flow(437), 2.211068, 6);
    assert_close(flow(950), 2.588648, 6);
    let table = [
        (5, [-0.381968, -0.079771, -0.319992], [-0.873058, -0.382104, -0.743745]),
        (10, [-0.212189, -0.021822, -0.169888], [-0.502451, -0.116633, -0.383451]),
        (20, [-0.114323, -0.005644, -0.089481], [-0.280137, -0.032224, -0.200604]),
        (50, [-0.048772, -0.000916, -0.037725], [-0.122731, -0.005331, -0.084569]),
    ];
    for (m, at_437, at_950) in table {
        for (t, expected) in [(437, at_437), (950, at_950)] {
            for (method, expected) in [Inversion::DDIM, RENOISE, PUBLISHED].into_iter().zip(expected) {
                let found = inverted(method, 1.3, &even(t, m)) - flow(t);
                // abar is float32: the fixture's 1e-6 are those of a float64 table
                assert!((found - expected).abs() < 5e-6, "{method:?}, m {m}, t {t}: {found} {expected}");
            }
        }
    }
}

#[test]
fn one_renoise_step_agrees_with_the_fixture() {
    let (schedule, start) = (schedule(), double(0.9));
    for (method, told, corrected, reached) in [(RENOISE, 501, 1.035096, 0.968967), (PUBLISHED, 401, 1.073519, 0.973556)]
    {
        let mut asked = Vec::new();
        let mut predict = |x: &Tensor, t: &Tensor, _: &[i64]| {
            let prediction = exact_rows(&schedule, x, t);
            asked.push((t.int64_value(&[0]), value(x), value(&prediction)));
            Ok(prediction)
        };
        let levels = [vec![401, 501]];
        let found = value(&invert(&schedule, method, &start, &levels, &mut predict, &mut no_noise).unwrap());
        assert_close(found, reached, 6);
        let (timesteps, numbers): (Vec<i64>, Vec<[f64; 2]>) = asked.into_iter().map(|(t, x, e)| (t, [x, e])).unzip();
        assert_eq!(timesteps, [401, told]);
        for (found, expected) in numbers.iter().flatten().zip([0.9, 1.001283, 0.964929, corrected]) {
            assert_close(*found, expected, 6);
        }
    }
}

#[test]
fn levels_of_both_grids_end_where_the_fixture_does() {
    // x_w and x_l of 21.5, t = 437: own grids, and the published ones with their negative first level
    let cases: [(Inversion, &[i64], f64, f64); 4] = [
        (Inversion::DDIM, &[0, 87, 175, 262, 350, 437], 1.829100, -0.984900),
        (Inversion::DDIM, &[-99, 1, 101, 201, 301, 401, 501], 1.883473, -1.014178),
        (RENOISE, &[0, 146, 291, 437], 2.012738, -1.083782),
        (PUBLISHED, &[-199, 1, 201, 401, 601], 1.728606, -0.930788),
    ];
    for (method, levels, winner, loser) in cases {
        assert_close(inverted(method, 1.3, levels), winner, 5);
        assert_close(inverted(method, -0.7, levels), loser, 5);
    }
}

#[test]
fn the_network_is_told_a_negative_level_as_it_is() {
    let schedule = schedule();
    let mut told = Vec::new();
    let mut predict = |x: &Tensor, t: &Tensor, _: &[i64]| {
        told.push(t.int64_value(&[0]));
        Ok(x.zeros_like())
    };
    let levels = [vec![-99, 1, 101]];
    let found = invert(&schedule, Inversion::DDIM, &double(1.0), &levels, &mut predict, &mut no_noise).unwrap();
    let growth = (abar(&schedule, 101) / abar(&schedule, 0)).sqrt();
    assert!((value(&found) - growth).abs() < 1e-6, "a prediction of no noise only scales the latents");
    assert_eq!(told, [-99, 1]);
}

#[test]
fn predictions_are_only_read() {
    let kept = double(0.3);
    let mut predict = |_: &Tensor, _: &Tensor, _: &[i64]| Ok(kept.shallow_clone());
    let noisy = Inversion { eta: 1.0, ..RENOISE };
    let mut noise = |_: i64, _: usize| Tensor::ones([1, 1, 1], (Kind::Double, Device::Cpu));
    let levels = [vec![0, 300, 600]];
    let found = invert(&schedule(), noisy, &double(1.0), &levels, &mut predict, &mut noise).unwrap();
    assert_eq!(value(&kept), 0.3);
    assert!(value(&found).is_finite());
}

#[test]
fn rows_of_a_batch_go_their_own_ways() {
    let schedule = schedule();
    let levels = [even(437, 5), even(950, 9), vec![3], even(120, 2)];
    let start = Tensor::from_slice(&[1.3, -0.7, 0.2, 0.9]).view([4, 1, 1, 1]);
    let mut asked = Vec::new();
    let mut predict = |x: &Tensor, t: &Tensor, rows: &[i64]| {
        assert_eq!((x.size()[0], t.size()), (rows.len() as i64, vec![rows.len() as i64]));
        asked.push(rows.to_vec());
        Ok(exact_rows(&schedule, x, t))
    };
    let all = invert(&schedule, Inversion::DDIM, &start, &levels, &mut predict, &mut no_noise).unwrap();
    for (row, levels) in levels.iter().enumerate() {
        let alone = inverted(Inversion::DDIM, start.double_value(&[row as i64, 0, 0, 0]), levels);
        assert!((all.double_value(&[row as i64, 0, 0, 0]) - alone).abs() < 1e-12, "row {row}");
    }
    assert_eq!(asked[0], [0, 1, 3]);
    assert_eq!((asked[2].clone(), asked[5].clone(), asked.len()), (vec![0, 1], vec![1], 9));
    assert_eq!(start.double_value(&[0, 0, 0, 0]), 1.3, "the latents that were given stay");
}

#[test]
fn noise_of_an_inversion_is_drawn_for_each_row_and_step_and_has_the_fixtures_spread() {
    let schedule = schedule();
    let noisy = Inversion { eta: 0.1, ..Inversion::DDIM };
    let mut drawn = Vec::new();
    let mut noise = |row: i64, step: usize| {
        drawn.push((row, step));
        Tensor::ones([1, 1, 1], (Kind::Double, Device::Cpu)) * (row + 1)
    };
    let mut predict = |x: &Tensor, t: &Tensor, _: &[i64]| Ok(exact_rows(&schedule, x, t));
    let levels = [vec![401, 501], vec![301, 401, 501]];
    let start = Tensor::from_slice(&[0.9, 0.9]).view([2, 1, 1, 1]);
    let found = invert(&schedule, noisy, &start, &levels, &mut predict, &mut noise).unwrap();
    let plain = inverted(Inversion::DDIM, 0.9, &[401, 501]);
    assert!((found.double_value(&[0, 0, 0, 0]) - plain - 0.1 * 0.527609).abs() < 1e-6);
    assert_eq!(drawn, [(0, 0), (1, 0), (1, 1)]);
}

#[test]
fn inverted_latents_are_denoised_back() {
    let schedule = schedule();
    let levels = even(950, 400);
    let noisy = inverted(RENOISE, 1.3, &levels);
    let falling: Vec<i64> = levels.iter().rev().copied().collect();
    let mut ddim = pipelines::schedulers::Ddim::through(&schedule, &falling);
    let mut predict = |x: &Tensor, t: f64| Ok(exact(&schedule, x, t as i64).into());
    let back =
        pipelines::sampling::denoise(&mut ddim, double(noisy), &mut predict, &mut || panic!("no noise"), &mut |_| true);
    let back = value(&back.unwrap().unwrap());
    assert!((back - 1.3).abs() < 0.01, "{back}");
}

#[test]
fn ddim_inversion_is_that_of_diffusers() {
    let golden: std::collections::HashMap<String, Tensor> =
        Tensor::read_safetensors(golden("samplers.safetensors")).unwrap().into_iter().collect();
    for prediction_type in ["epsilon", "v_prediction"] {
        let schedule = NoiseSchedule::new(&with(json!({"prediction_type": prediction_type})));
        let destinations: Vec<i64> = Vec::try_from(&golden[&format!("inverse.{prediction_type}.timesteps")]).unwrap();
        // its timesteps are where steps lead to, and what the network is told; the first step comes from below 0
        let levels: Vec<i64> = [destinations[0] - 100].into_iter().chain(destinations.iter().copied()).collect();
        let start = Tensor::arange(12, (Kind::Float, Device::Cpu)).sin().view([1, 3, 2, 2]);
        let mut predict =
            |x: &Tensor, t: &Tensor, _: &[i64]| Ok(x * 0.3 + (t + 100i64).to_kind(Kind::Float) * 0.001 - 0.2);
        let found = invert(&schedule, Inversion::DDIM, &start, &[levels], &mut predict, &mut no_noise).unwrap();
        let expected = &golden[&format!("inverse.{prediction_type}.x")];
        let off = (found - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]).max(1.0);
        assert!(off < 1e-5, "{prediction_type}: {off}");
    }
}

#[test]
fn levels_that_make_no_way_are_refused() {
    let schedule = schedule();
    let refusal = |rows: i64, levels: &[Vec<i64>]| {
        let start = Tensor::zeros([rows, 1, 1, 1], (Kind::Double, Device::Cpu));
        let mut predict = |x: &Tensor, _: &Tensor, _: &[i64]| Ok(x.shallow_clone());
        invert(&schedule, Inversion::DDIM, &start, levels, &mut predict, &mut no_noise).unwrap_err().to_string()
    };
    for levels in [vec![0, 100, 100], vec![5, 3], vec![0, 1000], vec![]] {
        let text = refusal(1, std::slice::from_ref(&levels));
        assert!(
            text.contains("expected rising levels up to 999")
                && text.contains(&format!("found {:?}", levels.iter().map(|t| *t as f64).collect::<Vec<_>>())),
            "{text}"
        );
    }
    assert!(refusal(2, &[vec![0, 5]]).contains("[2, 1, 1, 1], expected [1, C, h, w]"));
    let mut narrow = |x: &Tensor, _: &Tensor, _: &[i64]| Ok(x.narrow(3, 0, 1));
    let start = Tensor::zeros([1, 1, 1, 2], (Kind::Double, Device::Cpu));
    let error = invert(&schedule, Inversion::DDIM, &start, &[vec![0, 5]], &mut narrow, &mut no_noise).unwrap_err();
    assert!(error.to_string().contains("a prediction while inverting has the shape [1, 1, 1, 1]"), "{error}");
}

#[test]
fn both_parameterisations_invert_alike() {
    let (epsilon, v) = (schedule(), NoiseSchedule::new(&with(json!({"prediction_type": "v_prediction"}))));
    for method in [Inversion::DDIM, RENOISE] {
        // v = (eps - s x) / a of the same network
        let mut predict = |x: &Tensor, t: &Tensor, _: &[i64]| {
            let abar = abar(&epsilon, t.int64_value(&[0]));
            Ok((exact_rows(&epsilon, x, t) - x * (1.0 - abar).sqrt()) / abar.sqrt())
        };
        let levels = even(700, 7);
        let found = invert(&v, method, &double(1.3), std::slice::from_ref(&levels), &mut predict, &mut no_noise);
        assert!((value(&found.unwrap()) - inverted(method, 1.3, &levels)).abs() < 1e-9, "{method:?}");
    }
}
