//! Figures on held-out data: accuracy with its interval, by user and by gap, calibration, Kendall's tau, dimensions.

use super::corpus::{Corpus, Judged};
use super::learner::Learner;
use super::towers::Features;
use super::work::{Work, right};
use crate::metrics::evaluation::Interval;
use crate::metrics::intervals::paired_bootstrap;
use crate::metrics::kendall_tau_b;
use crate::numbers::mean;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Bins of the calibration error.
const BINS: usize = 10;
/// Items per pass.
const PASS: usize = 16;
/// Steps of the search for the temperature; each narrows it by the golden ratio.
const SEARCH: usize = 80;

/// Figures of a scorer on held-out items.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Compared pairs, ties among them.
    pub pairs: usize,
    pub ties: usize,
    /// Share of pairs in the right order, ties of either count half: mean over prompts, 95 % interval over prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Interval>,
    /// Accuracy over pairs that are not labelled as ties, mean over pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_without_ties: Option<f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_user: BTreeMap<String, f64>,
    /// By tenth of the scorer's own gap |log odds|, the smallest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_gap: Vec<f64>,
    /// Expected calibration error of ten bins of the confidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ece: Option<f64>,
    /// Divisor of the log odds with the lowest cross-entropy, and the calibration error at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ece_at_temperature: Option<f64>,
    /// Kendall's tau-b of lists, mean over lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kendall_tau: Option<f64>,
    /// Accuracy of dimension a (first key) on the labels of dimension b.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: BTreeMap<String, BTreeMap<String, f64>>,
    /// Share of pictures whose own caption is the nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<f64>,
}

/// A compared pair.
struct Outcome {
    prompt: usize,
    user: Option<usize>,
    /// Probability that the first wins.
    probability: f64,
    /// Share of the first: 1, 0.5 or 0.
    share: f64,
}

impl Outcome {
    fn right(&self) -> f64 {
        right(self.probability, self.share)
    }

    /// Log odds of the label's side: above 0 is right.
    fn log_odds(&self) -> f64 {
        let p = self.probability.clamp(1e-12, 1.0 - 1e-12);
        (p / (1.0 - p)).ln() * if self.share >= 0.5 { 1.0 } else { -1.0 }
    }
}

/// Figures on the held-out items, or of captions.
///
/// # Errors
/// An unreadable picture.
pub fn measure(learner: &Learner) -> Result<Figures> {
    match &learner.work {
        Work::Captions(captioned) => {
            Ok(Figures { retrieval: Some(captioned.retrieval(&learner.towers)?), ..Figures::default() })
        }
        Work::Judged { corpus, features } => judged(learner, corpus, features),
    }
}

fn judged(learner: &Learner, corpus: &Corpus, features: &Features) -> Result<Figures> {
    let _frozen = tch::no_grad_guard();
    let has_dimensions = !learner.head.dimensions().is_empty();
    let (mut outcomes, mut taus) = (Vec::new(), Vec::new());
    let mut by_dimension: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for items in corpus.validation.chunks(PASS) {
        let items: Vec<&Judged> = items.iter().collect();
        let outputs = learner.outputs(features, &items)?;
        let mut start = 0;
        for item in items {
            let count = item.pictures.len();
            let own = outputs.narrow(0, start, count as i64);
            start += count as i64;
            if count > 2 || !item.places.is_empty() {
                let numbers = Vec::<f64>::try_from(learner.head.numbers(&own).select(1, 0).to_kind(Kind::Double))?;
                let places: Vec<f64> = item.places.iter().map(|place| -place).collect();
                taus.extend(kendall_tau_b(&numbers, &places));
            }
            for pair in pairs_of(item) {
                let index = Tensor::from_slice(&[pair.0 as i64, pair.1 as i64]).to_device(own.device());
                let both = own.f_index_select(0, &index)?.unsqueeze(0);
                let probabilities = learner.head.probabilities(&both).to_kind(Kind::Double);
                let probabilities = Vec::<f64>::try_from(probabilities.view([-1]))?;
                outcomes.extend(outcomes_of(item, pair.2, &probabilities, has_dimensions));
                for (a, p) in probabilities.iter().enumerate().filter(|_| has_dimensions) {
                    for (b, share) in item.dimensions.iter().enumerate().filter(|(_, share)| **share >= 0.0) {
                        by_dimension.entry((a, b)).or_default().push(right(*p, *share));
                    }
                }
            }
        }
    }
    let mut figures = of_outcomes(&outcomes, &corpus.users);
    figures.kendall_tau = mean(&taus);
    if has_dimensions {
        let name = |at: usize| corpus.dimensions[at].clone();
        for ((a, b), rights) in by_dimension {
            let of = figures.dimensions.entry(name(a)).or_default();
            of.insert(name(b), mean(&rights).unwrap_or(f64::NAN));
        }
    }
    Ok(figures)
}

/// Pictures of an item by pairs, with the share of the first.
fn pairs_of(item: &Judged) -> Vec<(usize, usize, f64)> {
    if item.places.is_empty() {
        return vec![(0, 1, item.share)];
    }
    let n = item.places.len();
    let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
    let ordered = |(a, b): (usize, usize)| match item.places[a].total_cmp(&item.places[b]) {
        std::cmp::Ordering::Less => Some((a, b, 1.0)),
        std::cmp::Ordering::Greater => Some((b, a, 1.0)),
        std::cmp::Ordering::Equal => None,
    };
    pairs.filter_map(ordered).collect()
}

/// The outcome of a pair, or one per labelled dimension.
fn outcomes_of(item: &Judged, share: f64, probabilities: &[f64], has_dimensions: bool) -> Vec<Outcome> {
    let of = |probability: f64, share: f64| Outcome { prompt: item.prompt, user: item.user, probability, share };
    if !has_dimensions {
        return probabilities.iter().map(|p| of(*p, share)).collect();
    }
    let labelled = probabilities.iter().zip(&item.dimensions).filter(|(_, share)| **share >= 0.0);
    labelled.map(|(p, share)| of(*p, *share)).collect()
}

fn of_outcomes(outcomes: &[Outcome], users: &[String]) -> Figures {
    let decided: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.share != 0.5).collect();
    let mut prompts: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    outcomes.iter().for_each(|outcome| prompts.entry(outcome.prompt).or_default().push(outcome.right()));
    let per_prompt: Vec<f64> = prompts.values().filter_map(mean).collect();
    let log_odds: Vec<f64> = decided.iter().map(|outcome| outcome.log_odds()).collect();
    let mut by_user: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for outcome in outcomes {
        if let Some(user) = outcome.user.and_then(|user| users.get(user)) {
            by_user.entry(user.clone()).or_default().push(outcome.right());
        }
    }
    let temperature = (!log_odds.is_empty()).then(|| fitted_temperature(&log_odds));
    Figures {
        pairs: outcomes.len(),
        ties: outcomes.len() - decided.len(),
        accuracy: paired_bootstrap(&[per_prompt]).and_then(|compared| compared.models.first().copied()),
        accuracy_without_ties: mean(decided.iter().map(|outcome| outcome.right())),
        by_user: by_user.into_iter().filter_map(|(user, rights)| Some((user, mean(&rights)?))).collect(),
        by_gap: by_gap(&log_odds),
        ece: calibration_error(&log_odds, BINS),
        temperature,
        ece_at_temperature: temperature
            .and_then(|t| calibration_error(&log_odds.iter().map(|x| x / t).collect::<Vec<_>>(), BINS)),
        ..Figures::default()
    }
}

/// Accuracy by tenth of |log odds|.
fn by_gap(log_odds: &[f64]) -> Vec<f64> {
    if log_odds.len() < BINS {
        return Vec::new();
    }
    let mut sorted = log_odds.to_vec();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let tenth = |i: usize| &sorted[i * sorted.len() / BINS..(i + 1) * sorted.len() / BINS];
    (0..BINS)
        .filter_map(|i| mean(tenth(i).iter().map(|x| right(0.5 + x.signum() * 0.5 * f64::from(*x != 0.0), 1.0))))
        .collect()
}

/// Expected calibration error: confidence c = max(p, 1 - p) in equal bins of [0.5, 1], sum n_b / n |accuracy_b - mean c_b|.
/// `log_odds`: of the right side of each pair. `None` without pairs.
pub fn calibration_error(log_odds: &[f64], bins: usize) -> Option<f64> {
    let mut sums = vec![(0.0, 0.0); bins];
    for x in log_odds {
        let confidence = 1.0 / (1.0 + (-x.abs()).exp());
        let bin = (((confidence - 0.5) * 2.0 * bins as f64) as usize).min(bins - 1);
        sums[bin].0 += right(0.5 + x, 1.0);
        sums[bin].1 += confidence;
    }
    let apart: f64 = sums.iter().map(|(right, confidence)| (right - confidence).abs()).sum();
    (!log_odds.is_empty()).then(|| apart / log_odds.len() as f64)
}

/// The divisor T in [0.01, 100] of the log odds with the lowest mean of -log sigmoid(x / T), by golden section in ln T.
pub fn fitted_temperature(log_odds: &[f64]) -> f64 {
    let cost = |t: f64| log_odds.iter().map(|x| (-x / t.exp()).exp().ln_1p()).sum::<f64>();
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.01f64.ln(), 100f64.ln());
    for _ in 0..SEARCH {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if cost(a) < cost(b) { high = b } else { low = a }
    }
    ((low + high) / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_odds(p: f64, right: bool) -> f64 {
        let x = (p / (1.0 - p)).ln();
        if right { x } else { -x }
    }

    #[test]
    fn the_calibration_error_is_that_of_the_fixture() {
        // docs/methods.md, fixtures of scorers
        let p = [0.55, 0.62, 0.71, 0.78, 0.93];
        let right = [true, false, true, true, true];
        let pairs: Vec<f64> = p.iter().zip(right).map(|(p, right)| log_odds(*p, right)).collect();
        let error = calibration_error(&pairs, 5).unwrap();
        assert!((error - 0.33).abs() < 1e-6, "{error}");
        assert_eq!(calibration_error(&[], 5), None);
    }

    #[test]
    fn the_temperature_makes_shares_and_confidence_agree() {
        // Log odds 4 that are right in three of four cases: T brings them to ln 3.
        let pairs = [4.0, 4.0, 4.0, -4.0];
        let t = fitted_temperature(&pairs);
        assert!((4.0 / t - 3f64.ln()).abs() < 1e-6, "{t}");
        let at: Vec<f64> = pairs.iter().map(|x| x / t).collect();
        assert!(calibration_error(&at, 10).unwrap() < 1e-6);
    }

    #[test]
    fn ties_of_label_and_prediction_count_half() {
        let of = |probability, share| Outcome { prompt: 0, user: None, probability, share };
        let figures = of_outcomes(&[of(0.9, 1.0), of(0.9, 0.5), of(0.5, 1.0), of(0.2, 1.0)], &[]);
        assert_eq!((figures.pairs, figures.ties), (4, 1));
        assert_eq!(figures.accuracy.unwrap().mean, 0.5);
        assert_eq!(figures.accuracy_without_ties, Some(0.5));
    }

    #[test]
    fn accuracy_rises_with_a_gap_that_means_something() {
        let pairs: Vec<f64> =
            (0..100).map(|i| if i < 20 && i % 2 == 0 { -f64::from(i) - 1.0 } else { f64::from(i) + 1.0 }).collect();
        assert_eq!(by_gap(&pairs), [0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
