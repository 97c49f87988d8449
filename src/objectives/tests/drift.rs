//! docs/methods.md 21.7: losses of predictions, and the safeguard.

use super::*;
use crate::objectives::timestep_weight::TimestepWeight;

/// Prediction minus target, winner theta and ref, loser theta and ref.
const RESIDUALS: [[f64; 4]; 4] =
    [[0.2, -0.1, 0.3, 0.1], [0.25, -0.05, 0.2, 0.15], [0.3, -0.2, 0.5, -0.1], [0.28, -0.25, 0.45, -0.05]];

fn tensor(values: &[f64]) -> Tensor {
    Tensor::from_slice(values)
}

fn mean(t: &Tensor) -> Tensor {
    t.mean(t.kind()).unsqueeze(0)
}

/// Errors and drift of the two images, with their graph.
struct Images {
    theta_w: Tensor,
    theta_l: Tensor,
    drift: Drift,
    errors: Errors,
}

fn images(w: &Tensor, l: &Tensor) -> Images {
    let [_, ref_w, _, ref_l] = RESIDUALS.map(|r| tensor(&r));
    let d = w - &ref_w;
    let drift = Drift { square: mean(&d.square()), pull: mean(&(w * &d)) };
    let (theta_w, theta_l) = (mean(&w.square()), mean(&l.square()));
    let number = |t: &Tensor| t.double_value(&[0]);
    let case = [number(&theta_w), number(&theta_l), number(&mean(&ref_w.square())), number(&mean(&ref_l.square()))];
    let detached = Drift { square: drift.square.detach(), pull: drift.pull.detach() };
    let errors = Errors { drift: Some(detached), ..pairs_of(&[case]) };
    Images { theta_w, theta_l, drift, errors }
}

#[test]
fn dspo_score_equals_the_fixtures_down_to_the_predictions() {
    let leaf = |i: usize| tensor(&RESIDUALS[i]).set_requires_grad(true);
    let (w, l) = (leaf(0), leaf(2));
    let images = images(&w, &l);
    close("mean d^2", images.drift.square.double_value(&[0]), 0.004375, 6);
    let method = built("dspo_score", "");
    for (beta, loss) in [(0.001, 0.03749500), (0.05, 0.03725275), (20.0, 0.35439887)] {
        let e = evaluate(&method, &images.errors, &Step { beta, ..STEP }, AS_PUBLISHED).unwrap();
        close("dspo_score", e.losses[0].loss, loss, 8);
    }
    let e = evaluate(&method, &images.errors, &Step { beta: 20.0, ..STEP }, AS_PUBLISHED).unwrap();
    let d = e.d_drift.unwrap();
    let root = &images.theta_w * e.d_theta.get(0)
        + &images.theta_l * e.d_theta.get(1)
        + &images.drift.square * d.square
        + &images.drift.pull * d.pull;
    root.sum(tch::Kind::Double).backward();
    let expected_w = [-2.621193, -1.874808, 3.500821, -2.372398];
    let expected_l = [-0.563125, 0.375417, -0.938542, 0.187708];
    for i in 0..4 {
        close("dL/dpred_w", w.grad().double_value(&[i]), expected_w[i as usize], 6);
        close("dL/dpred_l", l.grad().double_value(&[i]), expected_l[i as usize], 6);
    }
}

#[test]
fn dspo_sq_equals_the_fixtures_on_both_sides_of_its_gate() {
    let method = built("dspo_sq", "");
    for (square, loss) in [(0.004375, 0.142537), (0.4375, 0.062360)] {
        // u = 0.5 with beta 5000: h = 2e-4
        let mut errors = pairs_of(&[[0.1, 0.1, 0.1002, 0.1]]);
        errors.drift = Some(Drift { square: tensor(&[square]), pull: tensor(&[0.0]) });
        let e = evaluate(&method, &errors, &STEP, AS_PUBLISHED).unwrap();
        close("dspo_sq", e.losses[0].loss, loss, 6);
    }
    for (case, loss, dw) in [(CASE_A, 0.014209, 62.578), (CASE_B, 0.316042, 691.854)] {
        let mut errors = pairs_of(&[case]);
        errors.drift = Some(Drift { square: tensor(&[0.0]), pull: tensor(&[0.0]) });
        let e = evaluate(&method, &errors, &STEP, AS_PUBLISHED).unwrap();
        close("dspo_sq", e.losses[0].loss, loss, 6);
        close("dw", e.d_theta.double_value(&[0]), dw, 3);
        close("dl", e.d_theta.double_value(&[1]), -dw, 3);
    }
}

#[test]
fn the_safeguard_equals_the_fixtures() {
    let lam = |mu: f64, w: &[f64], l: &[f64]| {
        let (w, l) = (tensor(w), tensor(l));
        safeguard::lam(mu, &mean(&w.square()), &mean(&(&w * &l)), w.numel() as i64).double_value(&[0])
    };
    let (w, l) = (RESIDUALS[0], RESIDUALS[2]);
    close("first pair", lam(0.9, &w, &l), 0.068182, 6);
    close("first pair, mu .6", lam(0.6, &w, &l), 0.272727, 6);
    close("first pair, mu .2", lam(0.2, &w, &l), 0.545455, 6);
    close("negative product", lam(0.9, &[0.1, 0.2, -0.1, 0.0], &[-0.2, 0.1, 0.1, 0.3]), 1.0, 6);
    // dpo + safeguard, lam .3: dl -89.402 of -298.007 and -421.632 of -1405.441
    close("scaled", 0.3 * -298.007, -89.402, 3);
}

/// docs/methods.md 21.1
#[test]
fn lambda_of_t_equals_the_fixtures() {
    let root = |i: f64| 0.00085f64.sqrt() + (0.012f64.sqrt() - 0.00085f64.sqrt()) * i / 999.0;
    let mut abar = 1.0;
    let alphas_cumprod: Vec<f64> = (0..1000)
        .map(|i| {
            abar *= 1.0 - root(f64::from(i)).powi(2);
            abar
        })
        .collect();
    let lambda = |alphas_cumprod: &[f64]| {
        let abar = Tensor::from_slice(alphas_cumprod);
        let noise_to_signal = ((1f64 - &abar) / abar).sqrt();
        crate::objectives::numbers(&TimestepWeight::of(&noise_to_signal).lambda(&noise_to_signal))
    };
    let values = lambda(&alphas_cumprod);
    let rows = [
        (0, 1.000000),
        (1, 1.000833),
        (250, 1.045705),
        (437, 1.088119),
        (500, 1.108952),
        (750, 1.279045),
        (950, 1.749849),
        (999, 2.000000),
    ];
    for (t, expected) in rows {
        close("lambda", values[t], expected, 6);
    }
    let mut zero_snr = alphas_cumprod;
    zero_snr[999] = 0.0;
    assert_eq!(lambda(&zero_snr)[999], 2.0);
}
