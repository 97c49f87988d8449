//! What the curves of a run that samples while it trains say: whether its reward rises, and whether the reward stands for
//! what it should.

use super::metrics::{Metrics, Series, mean, newest};
use super::verdict::State;
use anyhow::Result;
use serde_json::{Map, Value};
use std::path::Path;

/// So many iterations are needed before a curve can be called rising or falling.
const ENOUGH_ITERATIONS: usize = 6;
/// The part at either end of a curve that is compared.
const END: f64 = 1.0 / 3.0;
/// Differences beyond so many standard errors count.
const ERRORS: f64 = 2.0;
/// Pictures of a prompt that differ by less than this share of what they did have collapsed.
const DIVERSITY_KEPT: f64 = 0.7;

/// The metric whose presence tells such a run.
pub const REWARD: &str = "rollout_reward";
/// Scores that are not trained on: `watch_NAME`.
pub const WATCH: &str = "watch_";

/// The rules in words: (name, rule).
pub fn rules() -> Vec<(&'static str, String)> {
    vec![
        (
            "Reward hacked",
            format!(
                "Only for methods that sample while they train, from {ENOUGH_ITERATIONS} iterations on. The reward of the \
                 samples rose from the first third of the iterations to the last by more than {ERRORS} standard errors, \
                 while a score that is only watched fell by as much, or the diversity of a prompt's samples fell below \
                 {:.0} % of what it was.",
                DIVERSITY_KEPT * 100.0
            ),
        ),
        ("Reward rising", "The same rise, and neither of both.".into()),
    ]
}

/// The state of a run that samples while it trains; `None`: it does not.
pub fn judge(metrics: &Metrics) -> Option<(State, Vec<String>)> {
    let reward = metrics.series(REWARD);
    if reward.is_empty() {
        return None;
    }
    let Some(change) = Change::of(&reward) else {
        let reason = format!("{} iterations were sampled; {ENOUGH_ITERATIONS} are needed to tell.", reward.len());
        return Some((State::NothingLearntYet, vec![reason]));
    };
    if !change.rises() {
        return Some((State::NothingLearntYet, vec![change.words("The reward of the samples")]));
    }
    let mut reasons = vec![change.words("The reward of the samples")];
    let hacked = hacking(metrics);
    let state = if hacked.is_empty() { State::RewardRising } else { State::RewardHacked };
    reasons.extend(hacked);
    Some((state, reasons))
}

/// What falls while the reward rises.
fn hacking(metrics: &Metrics) -> Vec<String> {
    let mut found = Vec::new();
    for key in metrics.keys(WATCH) {
        let falls = Change::of(&metrics.series(&key)).filter(Change::falls);
        found.extend(
            falls.map(|change| change.words(&format!("{}, which is not trained on,", key.trim_start_matches(WATCH)))),
        );
    }
    let diversity =
        Change::of(&metrics.series("diversity")).filter(|change| change.after < DIVERSITY_KEPT * change.before);
    found.extend(diversity.map(|change| change.words("The diversity of a prompt's samples")));
    found
}

/// A curve's ends.
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

/// Tells once, while the run goes on, when its reward is being hacked.
#[derive(Debug)]
pub struct HackGuard {
    lines: Metrics,
    said: bool,
}

impl HackGuard {
    /// Of a run whose lines so far are in `metrics`.
    ///
    /// # Errors
    /// A line that is no metrics line.
    pub fn open(metrics: &Path) -> Result<Self> {
        Ok(Self { lines: Metrics::read(metrics)?, said: false })
    }

    /// Takes in the line of another step; the first of an iteration may bring the warning.
    pub fn observe(&mut self, line: &Map<String, Value>) -> Option<String> {
        if self.said || !line.contains_key(REWARD) {
            return None;
        }
        self.lines.push(line.clone());
        let (state, reasons) = judge(&self.lines)?;
        self.said = state == State::RewardHacked;
        self.said.then(|| format!("warning: the reward is being hacked: {} Look at the samples.", reasons.join(" ")))
    }
}
