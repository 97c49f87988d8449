//! Intervals over seeds and prompts, against plain Python.

use crate::support::{golden, json};
use diffpref::metrics::intervals::crossed_bootstrap;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn seeds_then_prompts_are_resampled_as_in_python() {
    let golden = json(&golden("sweep/bootstrap.json"));
    let points: Vec<Vec<Vec<f64>>> = golden["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_array().unwrap().iter().map(numbers).collect())
        .collect();
    let resampled = crossed_bootstrap(&points).unwrap();
    for (got, expected) in resampled.iter().zip(golden["expected"].as_array().unwrap()) {
        let (own, difference) = (got.interval(), got.minus(&resampled[0]));
        let got = [own.mean, own.lo, own.hi, difference.mean, difference.lo, difference.hi];
        let wanted = [
            &[expected["mean"].clone()][..],
            expected["interval"].as_array().unwrap(),
            &[expected["difference"].clone()],
            expected["difference_interval"].as_array().unwrap(),
        ]
        .concat();
        for (got, wanted) in got.iter().zip(wanted) {
            assert!((got - wanted.as_f64().unwrap()).abs() < 1e-12, "{got} {wanted}");
        }
    }
}

#[test]
fn points_with_other_prompts_or_without_seeds_have_no_intervals() {
    assert!(crossed_bootstrap(&[vec![vec![1.0, 2.0]], vec![vec![1.0]]]).is_none());
    assert!(crossed_bootstrap(&[vec![]]).is_none());
    assert!(crossed_bootstrap(&[]).is_none());
}
