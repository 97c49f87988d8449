//! docs/methods.md 21.8: losses of lists and their derivatives, beta 5000, as published.

use super::*;

const PHI: [f64; 3] = [0.9, 0.6, 0.2];
const LIST_1: [f64; 3] = [6e-4, 1e-4, -2e-4];
const LIST_2: [f64; 3] = [1e-4, 6e-4, -2e-4];

#[test]
fn weighted_lists_equal_the_fixtures() {
    let own = [0.186546, 0.517471, 0.069327];
    let rows = [
        ("rankdpo", LIST_1, own, 0.139498, [258.070, -48.256, -209.814]),
        ("lipo_lambda", LIST_1, own, 0.139498, [258.070, -48.256, -209.814]),
        ("rankdpo", LIST_2, own, 0.489172, [777.544, -341.845, -435.699]),
        ("lipo_lambda", LIST_2, [0.186546, 0.135505, 0.264748], 0.366205, [471.187, -283.608, -187.579]),
    ];
    for (name, h, weights, loss, d) in rows {
        let (method, errors) = (built(name, ""), list_of(&PHI, &h));
        for (found, expected) in weight_values(&method, &errors, &STEP).into_iter().zip(weights) {
            close(name, found, expected, 6);
        }
        let e = evaluate(&method, &errors, &STEP, AS_PUBLISHED).unwrap();
        close(name, e.losses[0].loss, loss, 6);
        for (i, expected) in d.into_iter().enumerate() {
            close(name, e.d_theta.double_value(&[i as i64]), expected, 3);
        }
    }
}

#[test]
fn unweighted_lists_equal_the_fixtures() {
    let rows = [
        ("plackett_luce", "", [0.738823, 1.728880]),
        ("mpo", "a = 0.0", [0.100023, 0.100023]),
        ("mpo", "a = 1.0", [0.109235, 0.127690]),
    ];
    for (name, own, expected) in rows {
        for (h, loss) in [LIST_1, LIST_2].into_iter().zip(expected) {
            let e = evaluate(&built(name, own), &list_of(&PHI, &h), &STEP, AS_PUBLISHED).unwrap();
            close(name, e.losses[0].loss, loss, 6);
        }
    }
}

#[test]
fn rankdpo_divides_by_the_mean_weight_of_the_training_set() {
    let Objective::Lists(method) = built("rankdpo", "") else { panic!("rankdpo is a loss of lists") };
    let weights = method.data_weights(&PHI).unwrap();
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    let objective = Objective::Lists(method);
    let e = evaluate(&objective, &list_of(&PHI, &LIST_1), &STEP, Weighting::Divided(mean)).unwrap();
    close("normalised", e.losses[0].loss, 0.541150, 6);
}

#[test]
fn a_list_that_ranks_nothing_costs_nothing_and_counts_but_for_mpo() {
    for name in ["rankdpo", "lipo_lambda", "plackett_luce", "mpo"] {
        let e = evaluate(&built(name, ""), &list_of(&[0.5; 3], &LIST_1), &STEP, AS_PUBLISHED).unwrap();
        let losses: Vec<f64> = e.losses.iter().map(|l| l.loss).collect();
        assert_eq!(losses, if name == "mpo" { vec![] } else { vec![0.0] }, "{name}");
        assert_eq!(numbers(&e.d_theta), [0.0; 3], "{name}");
        assert!(e.compared.is_empty(), "{name}");
    }
}

#[test]
fn lipo_ranks_the_first_step_by_the_order_of_the_list() {
    // Rounding noise: ranks by it would put the second image first.
    let noise = [0.0, 1e-8, -1e-8];
    let weights = |h: &[f64]| weight_values(&built("lipo_lambda", ""), &list_of(&PHI, h), &STEP);
    assert_eq!(weights(&noise), weights(&[0.0; 3]));
}

#[test]
fn metrics_of_lists_run_over_pairs_of_images_with_different_ranks() {
    let e = evaluate(&built("rankdpo", ""), &list_of(&[0.9, 0.2, 0.2], &LIST_1), &STEP, AS_PUBLISHED).unwrap();
    assert_eq!(e.compared.len(), 2);
    let h: Vec<f64> = e.compared.iter().filter_map(Compared::h).collect();
    close("first against second", h[0], 5e-4, 9);
    close("first against third", h[1], 8e-4, 9);
    close("u", e.compared[0].u.unwrap(), 2500.0 * 5e-4, 6);
}
