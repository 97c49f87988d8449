//! docs/methods.md 21.9 and 21.10: losses of methods that sample while they train, and their derivatives.

use super::*;
use pipelines::families::{Family, family_named};
use tch::Kind;

/// beta of the fixtures: the method's own.
fn step_of(name: &str) -> Step {
    let beta = find(name).unwrap().keys.iter().find(|key| key.name == "beta").and_then(|key| key.default_for(None));
    Step { beta: beta.and_then(|beta| beta.as_float()).unwrap_or(f64::NAN), ..STEP }
}

fn unit(members: &[&[i64]]) -> Unit {
    Unit { id: "x".into(), members: members.iter().map(|rows| rows.to_vec()).collect(), ..Unit::default() }
}

/// One pair of transitions, the winner's first.
fn pair(r: [f64; 2]) -> Ratios {
    Ratios { units: vec![unit(&[&[0], &[1]])], r: Tensor::from_slice(&r), drift: None }
}

/// Single transitions with their advantages.
fn transitions(cases: &[(f64, f64)]) -> Ratios {
    let unit = |(row, (advantage, _)): (usize, &(f64, f64))| Unit { advantage: *advantage, ..unit(&[&[row as i64]]) };
    Ratios {
        units: cases.iter().enumerate().map(unit).collect(),
        r: Tensor::from_slice(&cases.iter().map(|(_, r)| *r).collect::<Vec<f64>>()),
        drift: None,
    }
}

fn evaluated(name: &str, own: &str, ratios: &Ratios) -> StepEvaluation {
    let objective = built(name, own);
    evaluate_units(objective.of_units().unwrap(), ratios, &step_of(name)).unwrap()
}

#[test]
fn losses_of_pairs_of_transitions_equal_the_fixtures() {
    let rows = [
        ("d3po", [0.05, 0.02], 0.691648),
        ("spo", [0.05, 0.02], 0.554355),
        ("d3po", [0.2, -0.3], 0.683164),
        ("spo", [0.2, -0.3], 0.126131),
        ("tailorpo", [0.03, -0.04], 0.403186),
    ];
    for (name, r, loss) in rows {
        let e = evaluated(name, "", &pair(r));
        close(name, e.losses[0], loss, 6);
        let u = e.logits.unwrap()[0];
        assert!(((1.0 + (-u).exp()).ln() - loss).abs() < 2e-6, "{name}: loss = -log sigma of its logit");
    }
    for (name, d) in [("d3po", -0.049925), ("spo", -4.255575)] {
        let e = evaluated(name, "", &pair([0.05, 0.02]));
        close(name, e.d_r.double_value(&[0]), d, 6);
        close(name, e.d_r.double_value(&[1]), -d, 6);
        assert_eq!(e.clamped, (0, 2));
    }
}

#[test]
fn a_held_ratio_of_a_pair_has_no_gradient_on_either_side_whatever_the_label_and_an_edge_passes_it() {
    for name in ["d3po", "spo", "tailorpo"] {
        for r in [[0.2, -0.3], [-0.3, 0.2]] {
            let e = evaluated(name, "", &pair(r));
            assert_eq!((numbers(&e.d_r), e.clamped), (vec![0.0; 2], (2, 2)), "{name}");
        }
        let one = evaluated(name, "", &pair([0.2, 0.02]));
        assert_eq!(one.d_r.double_value(&[0]), 0.0, "{name}");
        assert!(one.d_r.double_value(&[1]) > 0.0, "{name}: the other transition still learns");
        assert_eq!(one.clamped, (1, 2), "{name}");
        let edges = evaluated(name, "", &pair([0.1f64.ln_1p(), (-0.1f64).ln_1p()]));
        assert!(numbers(&edges.d_r).iter().all(|d| *d != 0.0), "{name}");
        assert_eq!(edges.clamped, (0, 2), "{name}");
    }
}

#[test]
fn spo_keeps_pairs_of_candidates_that_are_told_apart() {
    let scores = |gap: f64| [21.3, 20.9, 21.0, 21.3 - gap];
    close("gap 1.1", (0.55f64).tanh(), 0.500520, 6);
    close("gap .5", (0.25f64).tanh(), 0.244919, 6);
    assert_eq!(best_and_worst(&scores(1.1), 0.3), Some([0, 3]));
    assert_eq!(best_and_worst(&scores(0.5), 0.3), None);
    for (threshold, gap) in [(0.3, 0.619039), (0.4, 0.847298)] {
        assert_eq!(best_and_worst(&[0.0, gap + 1e-6], threshold), Some([1, 0]));
        assert_eq!(best_and_worst(&[0.0, gap - 1e-6], threshold), None);
    }
    assert_eq!(best_and_worst(&[0.5, 0.5], 0.0), None, "equal scores are no pair");
    assert_eq!(best_and_worst(&[0.5, 0.5 + 1e-12], 0.0), Some([1, 0]), "any strict gap is one");
    assert_eq!(best_and_worst(&[1.0, 2.0, 1.0, 2.0], 0.3), Some([1, 0]), "the first of equals");
    assert_eq!(best_and_worst(&[], 0.0), None);
}

#[test]
fn ddpo_equals_the_fixtures_and_holds_only_what_would_gain() {
    // A, r, loss, dL/dr, clamped
    let rows = [
        (1.2, 5e-5, -1.20006000, -1.20006000, false),
        (1.2, 3e-4, -1.20012000, 0.0, true),
        (1.2, -3e-4, -1.19964005, -1.19964005, false),
        (-0.8, 3e-4, 0.80024004, 0.80024004, false),
        (-0.8, -3e-4, 0.79992000, 0.0, true),
        (7.0, 5e-5, -5.00025001, -5.00025001, false),
    ];
    let e = evaluated("ddpo", "", &transitions(&rows.map(|(a, r, ..)| (a, r))));
    for (i, (a, r, loss, d, _)) in rows.into_iter().enumerate() {
        close(&format!("loss of {a}, {r}"), e.losses[i], loss, 8);
        close(&format!("dL/dr of {a}, {r}"), e.d_r.double_value(&[i as i64]), d, 8);
    }
    assert_eq!(e.clamped, (2, 6));
    assert!(e.logits.is_none(), "single transitions have no logit");
    // The printed form: max(-A rho, -A clamp(rho)).
    for (i, (a, r, ..)) in rows.into_iter().enumerate() {
        let (a, rho) = (f64::clamp(a, -5.0, 5.0), f64::exp(r));
        let printed = (-a * rho).max(-a * rho.clamp(1.0 - 1e-4, 1.0 + 1e-4));
        assert!((e.losses[i] - printed).abs() < 1e-14, "{a}, {r}");
    }
}

#[test]
fn ddpo_passes_the_gradient_at_an_edge_counts_rows_by_unit_and_stays_finite_far_away() {
    let edges = transitions(&[(1.0, 1e-4f64.ln_1p()), (-1.0, (-1e-4f64).ln_1p())]);
    let e = evaluated("ddpo", "", &edges);
    assert!(numbers(&e.d_r).iter().all(|d| *d != 0.0));
    assert_eq!(e.clamped, (0, 2));
    // Units in another order than rows: the first unit's transition is row 1.
    let mut turned = transitions(&[(1.0, 0.0), (1.0, 3e-4)]);
    turned.units.swap(0, 1);
    let objective = built("ddpo", "");
    let held = objective.of_units().unwrap().clamped(&turned);
    assert_eq!(numbers(&held), [0.0, 1.0]);
    let far = evaluated("ddpo", "", &transitions(&[(1.0, 1e4), (-1.0, -1e4), (0.0, 1e4)]));
    assert_eq!(numbers(&far.d_r), [0.0; 3]);
    assert!(far.losses.iter().all(|loss| loss.is_finite()), "{:?}", far.losses);
}

/// docs/methods.md 21.9
#[test]
fn grpo_is_ddpo_with_the_distance_from_the_start_model() {
    let cases = [(1.2, 5e-5), (1.2, 3e-4), (-0.8, -3e-4), (7.0, 5e-5)];
    let plain = |name: &str| evaluated(name, "", &transitions(&cases));
    let (own, other) = (plain("grpo"), plain("ddpo"));
    assert_eq!((&own.losses, own.clamped), (&other.losses, other.clamped));
    assert_eq!(numbers(&own.d_r), numbers(&other.d_r));
    let (mu_old, mu, sigma) = ([0.963267, -0.546955], [0.964, -0.549], 0.527609);
    let kl = (0..2).map(|i| (mu[i] - mu_old[i] as f64).powi(2)).sum::<f64>() / 2.0 / (2.0 * sigma * sigma);
    close("kl", kl, 0.00000424, 8);
    let ratios = Ratios { drift: Some(Tensor::from_slice(&[kl])), ..transitions(&[(1.2, 5e-5)]) };
    let e = evaluated("grpo", "kl_beta = 0.04", &ratios);
    close("loss", e.losses[0], -1.20006 + 0.04 * kl, 8);
    close("dL/d drift", e.d_drift.unwrap().double_value(&[0]), 0.04, 12);
}

#[test]
fn dpok_adds_the_drift_from_the_start_model() {
    let drift = ((0.31f64 - 0.3).powi(2) + (0.08f64 - 0.1).powi(2)) / 2.0;
    close("drift", drift, 0.00025, 8);
    let ratios = Ratios { drift: Some(Tensor::from_slice(&[drift])), ..transitions(&[(1.2, 5e-5)]) };
    let e = evaluated("dpok", "", &ratios);
    close("loss", e.losses[0], -1.20005750, 8);
    close("dL/dr", e.d_r.double_value(&[0]), -1.20006000, 8);
    close("dL/d drift", e.d_drift.unwrap().double_value(&[0]), 0.01, 12);
    // The clamp removes the gradient of the ratio, not that of the drift.
    let held = Ratios { drift: Some(Tensor::from_slice(&[drift])), ..transitions(&[(1.2, 3e-4)]) };
    let e = evaluated("dpok", "", &held);
    assert_eq!((e.d_r.double_value(&[0]), e.clamped), (0.0, (1, 1)));
    close("dL/d drift", e.d_drift.unwrap().double_value(&[0]), 0.01, 12);
}

#[test]
fn dense_reward_equals_the_fixtures_and_clamps_each_step_for_itself() {
    let r = [5e-5, 2e-4, -3e-5, -1e-5, -5e-4, 2e-5];
    let ratios = |scores: [f64; 2]| Ratios {
        units: vec![Unit { scores: scores.to_vec(), ..unit(&[&[0, 1, 2], &[3, 4, 5]]) }],
        r: Tensor::from_slice(&r),
        drift: None,
    };
    let single = "scale = 10.0\nclamp = 1e-4\nsampled_steps = 3";
    let e = evaluated("dense-reward", single, &ratios([0.9, 0.1]));
    close("logit", e.logits.unwrap()[0], 0.0004 + 0.0003, 8);
    close("loss", e.losses[0], 0.69279724, 8);
    let d = numbers(&e.d_r);
    assert_eq!([d[1], d[4]], [0.0; 2], "clamped steps");
    assert!([d[0], d[2]].iter().all(|d| *d < 0.0) && [d[3], d[5]].iter().all(|d| *d > 0.0), "{d:?}");
    assert_eq!(e.clamped, (2, 6));
    // With exchanged scores the second trajectory is the better one.
    let turned = evaluated("dense-reward", single, &ratios([0.1, 0.9]));
    close("turned", turned.logits.unwrap()[0], -0.0007, 8);
    assert!((turned.losses[0] - (1.0 + 0.0007f64.exp()).ln()).abs() < 1e-12);
}

#[test]
fn dense_reward_ranks_a_list_by_its_scores_and_does_not_compare_equal_ones() {
    let list = |scores: &[f64]| Ratios {
        units: vec![Unit { scores: scores.to_vec(), ..unit(&[&[0], &[1], &[2]]) }],
        r: Tensor::from_slice(&[0.5, -0.2, 0.1]),
        drift: None,
    };
    let wide = "scale = 1.0\nclamp = 1.0\ntrajectories_per_loss = 3";
    let e = evaluated("dense-reward", wide, &list(&[0.3, 0.9, -0.4]));
    close("ListMLE", e.losses[0], 1.986315, 6);
    close("best against worst", e.logits.unwrap()[0], -0.3, 12);
    let ties = evaluated("dense-reward", wide, &list(&[0.3, 0.3, 0.3]));
    assert_eq!((ties.losses[0], numbers(&ties.d_r)), (0.0, vec![0.0; 3]));
}

#[test]
fn a_step_that_was_drawn_twice_counts_twice() {
    let ratios = |members: &[&[i64]]| Ratios {
        units: vec![Unit { scores: vec![1.0, 0.0], ..unit(members) }],
        r: Tensor::from_slice(&[3e-5, -2e-5, 9e-4, 0.0]),
        drift: None,
    };
    let e = evaluated("dense-reward", "scale = 1.0", &ratios(&[&[0, 0, 2], &[1, 1, 3]]));
    let d = numbers(&e.d_r);
    close("logit", e.logits.unwrap()[0], (6e-5 + 5e-4) / 3.0 + 4e-5 / 3.0, 12);
    assert!((d[0] / d[1] + 1.0).abs() < 1e-12 && (d[0] / d[3] + 2.0).abs() < 1e-9, "{d:?}");
    assert_eq!((d[2], e.clamped), (0.0, (1, 6)));
    let twice = evaluated("dense-reward", "scale = 1.0", &ratios(&[&[2, 2, 0], &[1, 1, 3]]));
    assert_eq!(twice.clamped, (2, 6));
}

/// Units that suit every method of its kind, away from kinks and clamps.
fn units_of(units: Units) -> Ratios {
    let r = Tensor::from_slice(&[3e-5, -2e-5, 6e-5, -5e-5, 1e-5, -8e-5]);
    let drift = Some(&r * &r + 2e-4);
    let units = match units {
        Units::Steps { .. } | Units::Groups(_) => {
            (0..6).map(|i| Unit { advantage: 1.5 - i as f64, ..unit(&[&[i]]) }).collect()
        }
        Units::Trajectories | Units::Candidates(_) => (0..3).map(|i| unit(&[&[2 * i], &[2 * i + 1]])).collect(),
        Units::Lists(_) => vec![
            Unit { scores: vec![0.1, 0.9, 0.4], ..unit(&[&[0, 1], &[2, 2], &[3, 1]]) },
            Unit { scores: vec![0.6, -2.0], ..unit(&[&[4, 3], &[5, 5]]) },
        ],
    };
    Ratios { units, r, drift }
}

fn moved(values: &Tensor, i: i64, by: f64) -> Tensor {
    let out = values.copy();
    let _ = out.get(i).fill_(out.double_value(&[i]) + by);
    out
}

#[test]
fn derivatives_of_units_equal_finite_differences() {
    const STEP_SIZE: f64 = 1e-6;
    let mut checked = 0;
    for entry in REGISTRY {
        let Some(rollouts) = entry.needs().rollouts else { continue };
        let objective = built(entry.name, if entry.name == "grpo" { "kl_beta = 0.04" } else { "" });
        let (method, step) = (objective.of_units().unwrap(), step_of(entry.name));
        let ratios = units_of(rollouts.units);
        let e = evaluate_units(method, &ratios, &step).unwrap();
        assert_eq!(e.clamped.0, 0, "{}", entry.name);
        let total = |r: Tensor, drift: Tensor| {
            let at = Ratios { units: ratios.units.clone(), r, drift: Some(drift) };
            method.losses(&at, &step).sum(Kind::Double).double_value(&[])
        };
        let drift = ratios.drift();
        let check = |what: &str, found: f64, up: f64, down: f64| {
            let expected = (up - down) / (2.0 * STEP_SIZE);
            assert!((found - expected).abs() < 1e-6, "{} {what}: {found} is not {expected}", entry.name);
        };
        for i in 0..6 {
            let at = |by: f64| total(moved(&ratios.r, i, by), drift.shallow_clone());
            check("r", e.d_r.double_value(&[i]), at(STEP_SIZE), at(-STEP_SIZE));
            let at = |by: f64| total(ratios.r.shallow_clone(), moved(drift, i, by));
            check("drift", e.d_drift.as_ref().unwrap().double_value(&[i]), at(STEP_SIZE), at(-STEP_SIZE));
        }
        checked += 1;
    }
    assert_eq!(checked, 7);
}

#[test]
fn the_sum_over_micro_batches_of_units_is_that_of_the_whole() {
    for entry in REGISTRY {
        let Some(rollouts) = entry.needs().rollouts else { continue };
        let objective = built(entry.name, if entry.name == "grpo" { "kl_beta = 0.04" } else { "" });
        let (method, step) = (objective.of_units().unwrap(), step_of(entry.name));
        let whole = units_of(rollouts.units);
        let e = evaluate_units(method, &whole, &step).unwrap();
        let mut d_r = whole.r.zeros_like();
        for (i, unit) in whole.units.iter().enumerate() {
            let part =
                Ratios { units: vec![unit.clone()], r: whole.r.copy(), drift: whole.drift.as_ref().map(Tensor::copy) };
            let part = evaluate_units(method, &part, &step).unwrap();
            assert!((part.losses[0] - e.losses[i]).abs() < 1e-15, "{}", entry.name);
            d_r += part.d_r;
        }
        assert!((d_r - e.d_r).abs().max().double_value(&[]) < 1e-15, "{}", entry.name);
    }
}

/// A policy N(theta, sigma^2) of one number x with reward a x: the gradient of its expected reward is a, so that of the
/// loss is -a / std(R) = -1 / sigma with advantages in units of std(R) = a sigma.
#[test]
fn ddpo_follows_the_policy_gradient_of_a_gaussian() {
    const N: i64 = 200_000;
    let (theta, sigma, a) = (0.4, 0.7, 3.0);
    let x = diffpref_native::Generator::cpu(11).randn(&[N, 1, 1, 1]).to_kind(Kind::Double) * sigma + theta;
    let rewards: Vec<f64> = numbers(&x).into_iter().map(|x| a * x).collect();
    let mean = rewards.iter().sum::<f64>() / N as f64;
    let spread = (rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / N as f64).sqrt();
    let advantages: Vec<f64> = rewards.iter().map(|reward| (reward - mean) / spread).collect();
    let units = advantages.iter().zip(0..).map(|(a, row)| Unit { advantage: *a, ..unit(&[&[row]]) });

    let parameter = Tensor::from(theta).set_requires_grad(true);
    let std = Tensor::from(sigma).expand([N], false);
    let log_prob = |mean: &Tensor| pipelines::schedulers::log_prob(&mean.expand([N, 1, 1, 1], false), &std, &x);
    let r = log_prob(&parameter) - log_prob(&parameter.detach());
    let ratios = Ratios { units: units.collect(), r: r.shallow_clone(), drift: None };
    assert_eq!(r.abs().max().double_value(&[]), 0.0, "the first update: the policy is the one that sampled");

    let e = evaluated("ddpo", "advantage_clip = 100.0", &ratios);
    let mean_loss = (&e.d_r * &r).sum(Kind::Double) / N as f64;
    let gradient = Tensor::run_backward(&[mean_loss], &[&parameter], false, false).remove(0).double_value(&[]);
    // d log p / d theta = (x - theta) / sigma^2
    let score = numbers(&((&x - theta) / (sigma * sigma)));
    let by_hand = -advantages.iter().zip(&score).map(|(a, s)| a * s).sum::<f64>() / N as f64;
    assert!((gradient - by_hand).abs() < 1e-10, "{gradient} is not {by_hand}");
    // The estimator is that of std(x) / sigma^2: a relative error of 1 / sqrt(2 N), 0.0016, of which five are allowed.
    assert!((gradient * sigma + 1.0).abs() < 5.0 / (2.0 * N as f64).sqrt(), "{gradient} is not {}", -1.0 / sigma);
}

#[test]
fn pseudo_huber_equals_the_fixtures_and_its_derivative_finite_differences() {
    let Objective::Residuals(method) = built("self_npo", "") else { panic!("self_npo is a loss of residuals") };
    let scalar = |d: f64| Tensor::from_slice(&[d]).view([1, 1, 1, 1]);
    let loss = |d: f64| numbers(&method.losses(&scalar(d)))[0];
    close("d .02", loss(0.02), 0.01902498, 8);
    close("d .0005", loss(0.0005), 0.00011803, 8);
    assert_eq!(loss(0.0), 0.0);
    // The mean over C, H, W of every row; the run of 21.10: f - x_0.
    let rows = Tensor::from_slice(&[0.02, 0.0005, -0.035867 - 0.460102, -0.023948 - 1.473827]).view([2, 2, 1, 1]);
    let found = numbers(&method.losses(&rows));
    close("first row", found[0], (0.01902498 + 0.00011803) / 2.0, 8);
    close("second row", found[1], (0.494970 + 1.496775) / 2.0, 6);
    for d in [0.02, -0.0005, 0.0, 1.5] {
        let leaf = scalar(d).set_requires_grad(true);
        method.losses(&leaf).sum(Kind::Double).backward();
        let expected = (loss(d + 1e-7) - loss(d - 1e-7)) / 2e-7;
        let found = leaf.grad().double_value(&[0, 0, 0, 0]);
        assert!((found - expected).abs() < 1e-6, "{d}: {found} is not {expected}");
        assert!((found - d / (d * d + 1e-6f64).sqrt()).abs() < 1e-12, "{d}");
    }
    // No digits are lost in float32 where d^2 is far below c^2.
    let small = numbers(&method.losses(&scalar(1e-6).to_kind(Kind::Float)))[0];
    assert!((small / 5e-10 - 1.0).abs() < 1e-4, "{small}");
}

#[test]
fn methods_that_sample_have_the_published_settings() {
    let settings = |name: &str| {
        let entry = find(name).unwrap();
        let of = |family: Family| {
            let shown = |key: &crate::keys::Key| {
                format!("{} {}", key.name, key.default_for(family.default(name, key.name)).unwrap())
            };
            entry.keys.iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        (of(family_named("sd1").unwrap()), of(family_named("sdxl").unwrap()))
    };
    let same = |text: &str| (text.to_string(), text.to_string());
    assert_eq!(settings("d3po"), same("beta 0.1, clamp 0.1"));
    let spo = |candidates, threshold, ahead| {
        format!(
            "beta 10.0, clamp 0.1, candidates {candidates}, threshold {threshold}, skip_steps 4, denoise_ahead {ahead}"
        )
    };
    assert_eq!(settings("spo"), (spo(4, 0.3, 0), spo(2, 0.4, 3)));
    let tailorpo = "beta 10.0, clamp 0.1, candidates 2, threshold 0.0, skip_steps 0, denoise_ahead 0";
    assert_eq!(settings("tailorpo"), same(tailorpo));
    assert_eq!(settings("ddpo"), same("clamp 0.0001, advantage_clip 5.0, buffer 16"));
    assert_eq!(settings("dpok"), same("kl_ratio 0.01, clamp 0.0001, advantage_clip 5.0, buffer 16"));
    let grpo = "clamp 0.0001, advantage_clip 5.0, kl_beta 0.0, ratio_norm false, std \"group\", renormalise \"none\", timestep_fraction 0.6, skip_last 1, unlikeliness 0.0, mixed_advantage false";
    assert_eq!(settings("grpo"), same(grpo));
    let dense = "scale 12.5, clamp 0.0005, gamma 0.9, sampled_steps 1, trajectories_per_loss 2";
    assert_eq!(settings("dense-reward"), same(dense));
    let self_npo = |w| format!("rollout_steps 5, guidance {w}, huber_c 0.001, ema_decay 0.999, start \"data\"");
    assert_eq!(settings("self_npo"), (self_npo("-1.0"), self_npo("-5.0")));

    let rollouts = |name: &str| find(name).unwrap().needs().rollouts.unwrap();
    for name in ["d3po", "spo", "tailorpo", "ddpo", "dpok", "grpo"] {
        let Rollouts { steps, eta, guidance_scale, .. } = rollouts(name);
        assert_eq!((steps, eta, guidance_scale), (20, 1.0, 5.0), "{name}");
    }
    let Rollouts { steps, eta, guidance_scale, trajectories, .. } = rollouts("dense-reward");
    assert_eq!((steps, eta, guidance_scale, trajectories), (50, 1.0, 7.5, 5));
    assert_eq!((rollouts("d3po").trajectories, rollouts("d3po").units.rules().exactly), (2, Some(2)));
    assert!(find("dpok").unwrap().needs().reference && !find("ddpo").unwrap().needs().reference);
}
