//! Verdicts from the curves of a run that samples while it trains: whether its reward rises, and whether the reward
//! is hacked.

use super::metrics::{Metrics, Series, newest};
use super::state::State;
use crate::metrics::{REWARD, Role};
use crate::numbers::mean;
use std::collections::BTreeSet;

/// Iterations required before a curve can be called rising or falling.
const ENOUGH_ITERATIONS: usize = 6;
/// Fraction of a curve at either end that is compared.
const END: f64 = 1.0 / 3.0;
/// Significant difference in standard errors.
const ERRORS: f64 = 2.0;
/// Diversity of a prompt's pictures below this share of its start counts as collapsed.
const DIVERSITY_KEPT: f64 = 0.7;

/// The rules in words: (name, rule).
pub fn rules() -> Vec<(&'static str, String)> {
    vec![
        (
            "Reward hacked",
            format!(
                "Only for methods that sample while they train, from {ENOUGH_ITERATIONS} iterations on. The reward of the \
                 samples rose from the first third of the iterations to the last by more than {ERRORS} standard errors, or \
                 that on held-out prompts lies above the start model's with its whole 95 % interval, while a score that is \
                 only watched fell by as much, or the diversity of a prompt's samples fell below {:.0} % of what it was.",
                DIVERSITY_KEPT * 100.0
            ),
        ),
        (
            "Reward rising",
            "The same rise, and neither of both. Where prompts are held out, they alone say whether the reward rose: the \
             prompts of iterations differ by more than a model learns."
                .into(),
        ),
    ]
}

/// State of a run that samples while it trains; `None` for other runs.
pub fn judge(metrics: &Metrics) -> Option<(State, Vec<String>)> {
    let reward = metrics.series(|line| line.rollout_reward);
    if reward.is_empty() {
        return None;
    }
    let (change, gain) = (Change::of(&reward), Gain::of(metrics, REWARD));
    let mut reasons: Vec<String> = Vec::new();
    reasons.extend(gain.as_ref().map(|gain| gain.words("The reward")));
    reasons.extend(change.as_ref().map(|change| change.words("The reward of the samples")));
    if reasons.is_empty() {
        let reason = format!("{} iterations were sampled; {ENOUGH_ITERATIONS} are needed for a verdict.", reward.len());
        return Some((State::NothingLearntYet, vec![reason]));
    }
    let rose_in_samples = change.as_ref().is_some_and(Change::rises);
    let rose = gain.as_ref().map_or(rose_in_samples, |gain| gain.low > 0.0);
    let hacked = if rose || rose_in_samples { hacking(metrics) } else { Vec::new() };
    let state = match (rose, hacked.is_empty()) {
        (_, false) => State::RewardHacked,
        (true, true) => State::RewardRising,
        (false, true) => State::NothingLearntYet,
    };
    reasons.extend(hacked);
    Some((state, reasons))
}

/// Names of the scorers with this role, sorted.
pub fn scorers(metrics: &Metrics, role: Role) -> BTreeSet<&str> {
    metrics.lines().iter().flat_map(|line| line.named.scorers(role)).collect()
}

/// Newest gain of a score over the start model on held-out prompts.
struct Gain {
    step: u64,
    mean: f64,
    low: f64,
    high: f64,
}

impl Gain {
    /// `None` without a validation, or with one prompt.
    fn of(metrics: &Metrics, name: &str) -> Option<Self> {
        let (step, gain) = metrics.newest_gain(name)?;
        let (low, high) = gain.interval?;
        Some(Self { step, mean: gain.mean, low, high })
    }

    fn words(&self, what: &str) -> String {
        format!(
            "{what} on held-out prompts differs by {:+.4} from the start model's at step {} (95 % over prompts: {:+.4} to {:+.4}).",
            self.mean, self.step, self.low, self.high
        )
    }
}

/// Falling scores while the reward rises.
fn hacking(metrics: &Metrics) -> Vec<String> {
    let mut found = Vec::new();
    let not_trained_on = |name: &str| format!("{name}, which is not trained on,");
    for name in scorers(metrics, Role::Watched) {
        let curve = metrics.series(|line| line.named.score(Role::Watched, name));
        let falls = Change::of(&curve).filter(Change::falls);
        found.extend(falls.map(|change| change.words(&not_trained_on(name))));
    }
    let held_out: BTreeSet<&str> = metrics.lines().iter().flat_map(|line| line.named.watched_gains()).collect();
    for name in held_out {
        let falls = Gain::of(metrics, &Role::Watched.key(name)).filter(|gain| gain.high < 0.0);
        found.extend(falls.map(|gain| gain.words(&not_trained_on(name))));
    }
    let diversity = metrics.series(|line| line.diversity);
    let diversity = Change::of(&diversity).filter(|change| change.after < DIVERSITY_KEPT * change.before);
    found.extend(diversity.map(|change| change.words("The diversity of a prompt's samples")));
    found
}

/// Means of a curve's ends.
struct Change {
    before: f64,
    after: f64,
    /// Standard error of their difference.
    error: f64,
}

impl Change {
    /// `None` with too few points.
    fn of(series: &Series) -> Option<Self> {
        if series.len() < ENOUGH_ITERATIONS {
            return None;
        }
        let values: Vec<f64> = series.iter().map(|point| point.1).collect();
        let last = newest(&values, END);
        let first = &values[..last.len()];
        let (before, after) = (mean(first.iter().copied())?, mean(last.iter().copied())?);
        let variance = |values: &[f64], centre: f64| {
            values.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0).max(1.0)
        };
        let error = ((variance(first, before) + variance(last, after)) / last.len() as f64).sqrt();
        Some(Self { before, after, error })
    }

    fn rises(&self) -> bool {
        self.after - self.before > ERRORS * self.error
    }

    fn falls(&self) -> bool {
        self.before - self.after > ERRORS * self.error
    }

    fn words(&self, what: &str) -> String {
        let verb = match (self.rises(), self.falls()) {
            (true, _) => "rose",
            (_, true) => "fell",
            _ => "went",
        };
        format!(
            "{what} {verb} from {:.4} to {:.4} (first and last third of the iterations; standard error {:.4}).",
            self.before, self.after, self.error
        )
    }
}
