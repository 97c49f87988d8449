//! The fixtures of docs/methods.md 21.6 to 21.10, and derivatives against finite differences.

mod derivatives;
mod distribution;
mod drift;
mod lists;
mod pairs;
mod stepwise;

use super::*;
use crate::data::batches::BatchItem;
use crate::data::items::{ItemKind, Preference};
use pipelines::LevelRange;

/// e_theta(w), e_theta(l), e_ref(w), e_ref(l)
type Case = [f64; 4];
const CASE_A: Case = [0.1000, 0.1210, 0.1004, 0.1206];
const CASE_B: Case = [0.1003, 0.0998, 0.1000, 0.0996];
const CASE_C: Case = [0.1000, 0.1200, 0.1006, 0.1202];

const STEP: Step = Step { beta: 5000.0, number: 1, steps: 10, statistic: 0.0 };
const AS_PUBLISHED: Weighting = Weighting::Divided(1.0);

/// `method` with its SD1.5 defaults, overridden by `own`.
fn built(name: &str, own: &str) -> Objective {
    let entry = find(name).unwrap();
    let own: toml::Table = own.parse().unwrap();
    for key in own.keys() {
        assert!(entry.keys.iter().any(|k| k.name == key), "{name} has no key {key}");
    }
    entry.method(&own, None).unwrap().objective
}

fn item(rows: Vec<i64>, preference: Preference) -> BatchItem {
    BatchItem { id: "x".into(), rows, preference, ..BatchItem::default() }
}

/// Pairs in float64: winners first.
fn pairs_of(cases: &[Case]) -> Errors {
    let n = cases.len() as i64;
    let column = |w: usize, l: usize| {
        let values: Vec<f64> = cases.iter().map(|c| c[w]).chain(cases.iter().map(|c| c[l])).collect();
        Tensor::from_slice(&values)
    };
    let theta = column(0, 1);
    Errors {
        items: (0..n).map(|i| item(vec![i, n + i], Preference::Pair { tie: false })).collect(),
        reference: Some(column(2, 3)),
        drift: None,
        epsilon_factor: theta.ones_like(),
        lambda: theta.ones_like(),
        prompts: None,
        range: LevelRange::Steps(1000),
        theta,
    }
}

/// The images of one case as labelled images, the first desirable.
fn labels_of(case: Case) -> Errors {
    let label = |row: i64, desirable: bool| item(vec![row], Preference::Label { desirable });
    Errors { items: vec![label(0, true), label(1, false)], ..pairs_of(&[case]) }
}

fn list_of(phi: &[f64], h: &[f64]) -> Errors {
    let theta = Tensor::from_slice(&h.iter().map(|h| 0.1 - h).collect::<Vec<f64>>());
    Errors {
        items: vec![item((0..phi.len() as i64).collect(), Preference::List { phi: phi.to_vec() })],
        reference: Some(theta.full_like(0.1)),
        drift: None,
        epsilon_factor: theta.ones_like(),
        lambda: theta.ones_like(),
        prompts: None,
        range: LevelRange::Steps(1000),
        theta,
    }
}

/// Within one unit of the last of `digits`.
fn close(what: &str, found: f64, expected: f64, digits: i32) {
    assert!((found - expected).abs() <= 1.01 * 10f64.powi(-digits), "{what}: {found} is not {expected}");
}
