//! Sign test over prompts, Holm's correction over several tests, and the leader among models.

use super::evaluation::{Leaders, Scored, SignTest};
use super::wins;
use crate::scorers::Better;

/// Compares `rival` with `first`, prompt by prompt: on how many prompts it is better, worse, and equal.
/// `p`: two-sided exact sign test without the ties; `p_holm` equals it until [`correct`] is called.
pub fn sign_test(first: &[f64], rival: &[f64], better: Better) -> SignTest {
    let mut test = SignTest::default();
    for (first, rival) in first.iter().zip(rival) {
        let gain = gain(*first, *rival, better);
        if gain > 0.0 {
            test.better += 1;
        } else if gain < 0.0 {
            test.worse += 1;
        } else {
            test.ties += 1;
        }
    }
    test.p = two_sided(test.better, test.worse);
    test.p_holm = test.p;
    test
}

/// How much better `rival` is than `first`.
fn gain(first: f64, rival: f64, better: Better) -> f64 {
    match better {
        Better::Lower => first - rival,
        Better::Higher | Better::Neither => rival - first,
    }
}

/// min(1, 2 P(X <= min(a, b))) with X binomial of a + b trials and probability one half.
fn two_sided(a: u64, b: u64) -> f64 {
    let n = a + b;
    let mut log_term = -(n as f64) * std::f64::consts::LN_2; // ln of C(n, 0) / 2^n
    let mut tail = log_term.exp();
    for k in 1..=a.min(b) {
        log_term += ((n - k + 1) as f64).ln() - (k as f64).ln();
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// Sets `p_holm` (Holm 1979) of every test of a group of prompts, over all measures, scorers and models.
pub fn correct(scorers: &mut [Scored], group: &str) {
    let measures = scorers.iter_mut().flat_map(|scored| &mut scored.measures);
    let compared = measures.filter_map(|measured| measured.groups.get_mut(group));
    holm(compared.flat_map(|compared| &mut compared.sign_tests).collect());
}

/// Sets `p_holm` of every test, corrected over all of them.
pub fn holm(mut tests: Vec<&mut SignTest>) {
    tests.sort_by(|a, b| a.p.total_cmp(&b.p));
    let (count, mut largest) = (tests.len(), 0.0_f64);
    for (rank, test) in tests.into_iter().enumerate() {
        largest = largest.max((test.p * (count - rank) as f64).min(1.0));
        test.p_holm = largest;
    }
}

/// The best model by mean, and by Copeland: pairwise majorities over prompts won minus lost. The first one of equal
/// models. `None` for fewer than three models, where both are the same question.
pub fn leaders(per_model: &[Vec<f64>], better: Better) -> Option<Leaders> {
    if per_model.len() < 3 || better == Better::Neither {
        return None;
    }
    let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let means: Vec<f64> = per_model.iter().map(mean).map(|m| gain(0.0, m, better)).collect();
    let majority = |a: &Vec<f64>, b: &Vec<f64>| {
        let won: f64 = a.iter().zip(b).map(|(a, b)| wins(gain(*b, *a, better)) - 0.5).sum();
        (won > 0.0) as i32 - (won < 0.0) as i32
    };
    let copeland = per_model.iter().map(|a| f64::from(per_model.iter().map(|b| majority(a, b)).sum::<i32>()));
    Some(Leaders { by_mean: first_highest(&means)?, by_copeland: first_highest(&copeland.collect::<Vec<_>>())? })
}

fn first_highest(values: &[f64]) -> Option<usize> {
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter().position(|value| *value == highest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::evaluation::{Compared, Measured};
    use crate::scorers::{Measure, Scope};

    #[test]
    fn the_sign_test_is_the_exact_binomial() {
        let first = [0.0; 10];
        let mut rival = [1.0; 10];
        (rival[0], rival[1]) = (-1.0, 0.0);
        let test = sign_test(&first, &rival, Better::Higher);
        assert_eq!((test.better, test.worse, test.ties), (8, 1, 1));
        // 2 (C(9, 0) + C(9, 1)) / 2^9
        assert!((test.p - 20.0 / 512.0).abs() < 1e-12);
        let lower = sign_test(&first, &rival, Better::Lower);
        assert_eq!((lower.better, lower.worse), (1, 8));
        assert_eq!(sign_test(&first, &first, Better::Higher).p, 1.0);
        // 2 sum_{k <= 480} C(1000, k) / 2^1000 in rational numbers
        assert!((two_sided(480, 520) - 0.217_448_293_2).abs() < 1e-9);
    }

    #[test]
    fn holm_multiplies_the_smallest_by_the_number_of_tests_and_never_falls() {
        let scored = |p: f64| {
            let sign_tests = vec![SignTest { p, p_holm: p, ..SignTest::default() }];
            let compared = Compared { sign_tests, ..Compared::default() };
            let measure = Measure::real("x", "", None, None, Scope::Picture);
            Scored {
                name: "x".into(),
                about: String::new(),
                path: "".into(),
                accuracy: Default::default(),
                measures: vec![Measured { measure, groups: [("all".into(), compared)].into() }],
            }
        };
        let mut scorers = [0.04, 0.01, 0.03].map(scored);
        correct(&mut scorers, "all");
        let corrected = scorers.map(|scored| scored.measures[0].groups["all"].sign_tests[0].p_holm);
        // statsmodels multipletests(method="holm"): 0.06, 0.03, 0.06
        corrected.into_iter().zip([0.06, 0.03, 0.06]).for_each(|(got, wanted)| assert!((got - wanted).abs() < 1e-12));
    }

    #[test]
    fn a_mean_and_a_majority_may_have_different_leaders() {
        let models = [vec![0.0, 0.0, 0.0], vec![1.0, 1.0, -1.0], vec![0.5, 0.5, 3.0]];
        let leaders = leaders(&models, Better::Higher).unwrap();
        assert_eq!((leaders.by_mean, leaders.by_copeland), (2, 1));
        assert_eq!(super::leaders(&models[..2], Better::Higher), None);
    }
}
