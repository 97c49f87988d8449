//! Verdict from a run's curves, in words. The rules are stated on the page, because a loss curve that looks flat does
//! not separate these states.

use super::metrics::{Metrics, Series, newest};
use super::rewards;
use super::state::State;
use crate::numbers::mean;
use serde::Serialize;

/// Newest fraction of a curve that counts as "now".
const RECENT: f64 = 0.25;
/// Limit of both gaps as a share of the reference's error: above it the policy forgets how to denoise.
const GAP_LIMIT: f64 = 0.1;
/// Limit of training accuracy minus held-out accuracy: above it the pairs are memorised.
const ACCURACY_LEAD: f64 = 0.15;
/// Mean of sigma(-u) below which the pairs have hardly any gradient (0.5 at the start).
const SPENT_FACTOR: f64 = 0.05;
/// Validated steps required before a curve can be called flat or falling.
const ENOUGH_POINTS: usize = 6;

/// A state and the numbers behind it.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub state: State,
    pub headline: &'static str,
    pub reasons: Vec<String>,
    pub advice: &'static str,
}

/// The rules in words, in the order of evaluation: (name, rule).
pub fn rules() -> Vec<(&'static str, String)> {
    let (gap, lead) = (GAP_LIMIT * 100.0, ACCURACY_LEAD * 100.0);
    let mut rules = vec![
        (
            "Diverging",
            format!(
                "gap_w and gap_l (error of the model minus error of the reference, held-out where measured) both grew \
                 from the first half of the run to the second, and both are now above {gap:.0} % of the reference's error."
            ),
        ),
        (
            "Overfitting",
            format!(
                "The accuracy on training pairs is now more than {lead:.0} points above the one on held-out pairs, and \
                 the held-out margin had its best value before the newest quarter of at least {ENOUGH_POINTS} validations."
            ),
        ),
        (
            "Saturated",
            format!(
                "The held-out margin is above zero with its whole 95 % band, and either gradient_factor (0.5 at the \
                 start) is now below {SPENT_FACTOR}, or the held-out margin of the newest third of at least \
                 {ENOUGH_POINTS} validations is not above that of the third before."
            ),
        ),
        (
            "Learning",
            "The newest held-out margin is above zero with its whole 95 % band. Without held-out pairs: the mean margin \
             of the newest half of at least 20 steps is above zero by more than 2 standard errors."
                .into(),
        ),
        ("Nothing learnt yet", "None of these.".into()),
    ];
    // A run that samples while it trains is judged by its rewards alone.
    rules.splice(0..0, rewards::rules());
    rules
}

/// Derives the verdict from the curves of a run.
pub fn judge(metrics: &Metrics) -> Verdict {
    if let Some((state, reasons)) = rewards::judge(metrics) {
        return Verdict { state, headline: state.headline(), reasons, advice: state.advice() };
    }
    let curves = Curves::of(metrics);
    let tried = [diverging(&curves), overfitting(&curves), saturated(&curves), learning(&curves)];
    let (state, reasons) = tried.into_iter().flatten().next().unwrap_or_else(|| nothing(&curves));
    Verdict { state, headline: state.headline(), reasons, advice: state.advice() }
}

type Finding = Option<(State, Vec<String>)>;

struct Curves {
    val_margin: Series,
    val_margin_lo: Series,
    val_accuracy: Series,
    margin: Series,
    accuracy: Series,
    gradient_factor: Series,
    gap_w: Series,
    gap_l: Series,
    /// Whether the gaps are those of held-out pairs.
    gaps_held_out: bool,
    /// Error of the reference, or of the model at its start.
    reference_error: Option<f64>,
}

impl Curves {
    fn of(metrics: &Metrics) -> Self {
        let held_out = [metrics.series(|line| line.val_gap_w), metrics.series(|line| line.val_gap_l)];
        let gaps_held_out = held_out[0].len() >= 2;
        let [gap_w, gap_l] = match gaps_held_out {
            true => held_out,
            false => [metrics.series(|line| line.gap_w), metrics.series(|line| line.gap_l)],
        };
        let reference = mean(metrics.series(|line| line.ref_mse_w).iter().map(|p| p.1));
        let start = metrics.series(|line| line.model_mse_w);
        let start = &start[..start.len().div_ceil(10)];
        Self {
            val_margin: metrics.series(|line| line.val_margin),
            val_margin_lo: metrics.series(|line| line.val_margin_lo),
            val_accuracy: metrics.series(|line| line.val_implicit_acc),
            margin: metrics.series(|line| line.margin),
            accuracy: metrics.series(|line| line.implicit_acc),
            gradient_factor: metrics.series(|line| line.gradient_factor),
            gap_w,
            gap_l,
            gaps_held_out,
            reference_error: reference.or_else(|| mean(start.iter().map(|p| p.1))),
        }
    }
}

fn values(points: &[(f64, f64)]) -> impl Iterator<Item = f64> + '_ {
    points.iter().map(|p| p.1)
}

fn now(series: &[(f64, f64)]) -> Option<f64> {
    mean(values(newest(series, RECENT)))
}

fn diverging(curves: &Curves) -> Finding {
    let error = curves.reference_error.filter(|error| *error > 0.0)?;
    let grown = |series: &Series| {
        let (early, late) = series.split_at(series.len() / 2);
        let share = now(series)? / error;
        (mean(values(late))? > mean(values(early))? && share > GAP_LIMIT).then_some(share)
    };
    let (w, l) = (grown(&curves.gap_w)?, grown(&curves.gap_l)?);
    let pairs = if curves.gaps_held_out { "held-out" } else { "training" };
    let reason = format!(
        "On {pairs} pairs the model's error is {:.0} % above the reference's on winners and {:.0} % on losers, and both grow.",
        w * 100.0,
        l * 100.0
    );
    Some((State::Diverging, vec![reason]))
}

fn overfitting(curves: &Curves) -> Finding {
    if curves.val_margin.len() < ENOUGH_POINTS {
        return None;
    }
    let (train, held_out) = (now(&curves.accuracy)?, now(&curves.val_accuracy)?);
    let (at, best) = highest(&curves.val_margin)?;
    let recent_from = newest(&curves.val_margin, RECENT).first()?.0;
    (train - held_out > ACCURACY_LEAD && at < recent_from).then(|| {
        let accuracies = format!(
            "Accuracy is now {:.0} % on training pairs and {:.0} % on held-out pairs.",
            train * 100.0,
            held_out * 100.0
        );
        (State::Overfitting, vec![accuracies, format!("The held-out margin was highest ({best:.3e}) at step {at}.")])
    })
}

fn highest(series: &[(f64, f64)]) -> Option<(f64, f64)> {
    series.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The newest lower end of the held-out margin's band; of the margin itself without a band (one prompt).
fn proven(curves: &Curves) -> Option<(f64, f64)> {
    let newest = *curves.val_margin.last()?;
    let low = curves.val_margin_lo.last().filter(|p| p.0 == newest.0).map_or(newest.1, |p| p.1);
    (low > 0.0).then_some((newest.1, low))
}

fn proof(margin: f64, low: f64) -> String {
    format!("The held-out margin is {margin:.3e}; its 95 % band starts at {low:.3e}, above zero.")
}

fn saturated(curves: &Curves) -> Finding {
    let (margin, low) = proven(curves)?;
    let spent = now(&curves.gradient_factor).filter(|factor| *factor < SPENT_FACTOR);
    let points = &curves.val_margin;
    let third = points.len() / 3;
    let thirds = (points.len() >= ENOUGH_POINTS).then(|| {
        let (before, last) = points[points.len() - 2 * third..].split_at(third);
        Some((mean(values(before))?, mean(values(last))?))
    });
    let flat = thirds.flatten().filter(|(before, last)| last <= before);
    let reason = match (spent, flat) {
        (Some(factor), _) => {
            format!("gradient_factor has fallen from 0.5 to {factor:.3}: the training pairs hardly teach any more.")
        }
        (None, Some((before, last))) => {
            format!(
                "The held-out margin no longer rises: mean {last:.3e} over the newest third, {before:.3e} in the third before."
            )
        }
        (None, None) => return None,
    };
    Some((State::Saturated, vec![proof(margin, low), reason]))
}

fn learning(curves: &Curves) -> Finding {
    if let Some((margin, low)) = proven(curves) {
        let mut reasons = vec![proof(margin, low)];
        let accuracy = curves.val_accuracy.last();
        reasons
            .extend(accuracy.map(|p| format!("{:.0} % of the held-out pairs are ordered as labelled.", p.1 * 100.0)));
        return Some((State::Learning, reasons));
    }
    if !curves.val_margin.is_empty() || curves.margin.len() < 20 {
        return None;
    }
    let half: Vec<f64> = values(newest(&curves.margin, 0.5)).collect();
    let middle = mean(half.iter().copied())?;
    let variance = half.iter().map(|x| (x - middle).powi(2)).sum::<f64>() / (half.len() as f64 - 1.0);
    let error = (variance / half.len() as f64).sqrt();
    (middle > 2.0 * error).then(|| {
        let reason = format!(
            "The margin on training pairs is {middle:.3e} +- {error:.1e} over the newest half. There are no held-out \
             pairs, so nothing tells whether other pictures profit."
        );
        (State::Learning, vec![reason])
    })
}

fn nothing(curves: &Curves) -> (State, Vec<String>) {
    let reason = match (curves.val_margin.last(), curves.val_margin_lo.last(), curves.margin.len()) {
        (Some(margin), Some(low), _) => {
            format!(
                "The held-out margin is {:.3e} and its 95 % band reaches down to {:.3e}: zero is in it, or above it.",
                margin.1, low.1
            )
        }
        (Some(margin), None, _) => format!("The held-out margin is {:.3e}, not above zero.", margin.1),
        (None, _, 0) => {
            return (State::Unmeasured, vec!["There are neither held-out pairs nor margins of training pairs.".into()]);
        }
        (None, _, steps) => {
            format!("The margin on training pairs does not stand out from its noise after {steps} steps.")
        }
    };
    (State::NothingLearntYet, vec![reason])
}
