//! The paired bootstrap over prompts.

use diffpref::metrics::paired_bootstrap;

/// 100 names whose difficulty differs a lot, and a model that is better by 0.1 on every name.
fn models() -> Vec<Vec<f64>> {
    let before: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100) / 125.0).collect();
    let after = before.iter().map(|x| x + 0.1).collect();
    vec![before, after]
}

#[test]
fn means_are_exact_and_lie_in_their_intervals() {
    let measure = paired_bootstrap(&models()).unwrap();
    assert!((measure.models[0].mean - 0.396).abs() < 1e-12);
    for interval in measure.models.iter().chain(&measure.differences) {
        assert!(interval.lo <= interval.mean + 1e-12 && interval.mean <= interval.hi + 1e-12, "{interval:?}");
    }
}

#[test]
fn the_interval_is_that_of_the_normal_approximation_within_a_tenth() {
    let values = &models()[0];
    let variance = values.iter().map(|x| (x - 0.396f64).powi(2)).sum::<f64>() / 100.0;
    let expected = 2.0 * 1.96 * (variance / 100.0).sqrt();
    let got = paired_bootstrap(&models()).unwrap().models[0];
    assert!(((got.hi - got.lo) / expected - 1.0).abs() < 0.1, "{got:?}, expected a width of {expected}");
}

#[test]
fn what_the_models_share_cancels_out_of_the_difference() {
    let difference = paired_bootstrap(&models()).unwrap().differences[0];
    assert!((difference.mean - 0.1).abs() < 1e-9 && difference.hi - difference.lo < 1e-9, "{difference:?}");
    assert!(difference.excludes(0.0));
}

#[test]
fn equal_models_differ_by_nothing() {
    let mut models = models();
    models[1] = models[0].clone();
    let difference = paired_bootstrap(&models).unwrap().differences[0];
    assert_eq!((difference.mean, difference.lo, difference.hi), (0.0, 0.0, 0.0));
    assert!(!difference.excludes(0.0));
}

#[test]
fn the_same_figures_give_the_same_intervals() {
    assert_eq!(paired_bootstrap(&models()), paired_bootstrap(&models()));
}

#[test]
fn models_without_the_same_names_have_no_measure() {
    assert_eq!(paired_bootstrap(&[]), None);
    assert_eq!(paired_bootstrap(&[vec![]]), None);
    assert_eq!(paired_bootstrap(&[vec![1.0], vec![1.0, 0.0]]), None);
}
