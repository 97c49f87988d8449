//! The fixtures of docs/methods.md 21.6, and derivatives against finite differences.

use super::*;

fn errors(e: [f64; 4]) -> PairErrors {
    let t = |x: f64| Tensor::from_slice(&[x]);
    PairErrors {
        theta_w: t(e[0]),
        theta_l: Some(t(e[1])),
        ref_w: Some(t(e[2])),
        ref_l: Some(t(e[3])),
        epsilon_factor: t(1.0),
    }
}

const CASE_A: [f64; 4] = [0.1000, 0.1210, 0.1004, 0.1206];
const CASE_B: [f64; 4] = [0.1003, 0.0998, 0.1000, 0.0996];
const STEP: StepContext = StepContext { beta: 5000.0 };

fn built(name: &str) -> Box<dyn Objective> {
    (find(name).unwrap().build)(&toml::Table::new())
}

fn close(found: f64, expected: f64, digits: i32) {
    assert!((found - expected).abs() <= 10f64.powi(-digits), "{found} is not {expected}");
}

#[test]
fn losses_and_derivatives_equal_the_fixtures() {
    let rows = [
        ("sft", CASE_A, 0.100000, 1.0, None),
        ("sft", CASE_B, 0.100300, 1.0, None),
        ("dpo", CASE_A, 0.126928, 298.007, Some(-298.007)),
        ("dpo", CASE_B, 0.825939, 1405.441, Some(-1405.441)),
    ];
    for (name, case, loss, dw, dl) in rows {
        let d = differentiate(built(name).as_ref(), &errors(case), &STEP).unwrap();
        close(d.losses.double_value(&[0]), loss, 6);
        close(d.d_theta_w.double_value(&[0]), dw, 3);
        assert_eq!(d.d_theta_l.is_some(), dl.is_some(), "{name}");
        if let (Some(found), Some(expected)) = (d.d_theta_l, dl) {
            close(found.double_value(&[0]), expected, 3);
        }
    }
}

#[test]
fn derivatives_equal_finite_differences_with_an_epsilon_factor() {
    let step = 1e-6;
    for name in REGISTRY.iter().map(|e| e.name) {
        let objective = built(name);
        let at = |e: [f64; 4]| {
            let mut errors = errors(e);
            errors.epsilon_factor = Tensor::from_slice(&[0.3f64]);
            errors
        };
        let loss = |e: [f64; 4]| objective.losses(&at(e), &STEP).double_value(&[0]);
        let d = differentiate(objective.as_ref(), &at(CASE_B), &STEP).unwrap();
        let (mut up, mut down) = (CASE_B, CASE_B);
        up[0] += step;
        down[0] -= step;
        let expected = (loss(up) - loss(down)) / (2.0 * step);
        let found = d.d_theta_w.double_value(&[0]);
        assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{name}: {found} {expected}");
    }
}

#[test]
fn the_logit_is_zero_where_the_policy_is_the_reference() {
    let u = built("dpo").logits(&errors([0.2, 0.3, 0.2, 0.3]), &STEP).unwrap();
    assert_eq!(u.double_value(&[0]), 0.0);
}
