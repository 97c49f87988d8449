//! Claims of a sweep: a sentence, the difference of two methods that it is about, and whether the trials bear it out.

use super::file::{Claim, Expect};
use super::folder::Folder;
use super::metric::Metric;
use super::points::Measured;
use super::row::Row;
use super::significance::{Values, resampled, tested, values};
use crate::metrics::evaluation::{Interval, SignTest};
use crate::metrics::intervals::{Resampled, crossed_bootstrap};
use crate::metrics::signs::holm;
use crate::scorers::Better;
use anyhow::Result;
use serde::Serialize;

/// Tests with a corrected p below it count as real differences.
pub const LEVEL: f64 = 0.05;

crate::choice! {
    /// Verdict on a claim.
    pub enum Verdict {
        /// The interval lies on the side of the claim, and the test agrees.
        Holds = "holds",
        /// As `Holds`, on the other side.
        Opposite = "the opposite holds",
        NotTold = "cannot be told",
        /// A method has no finished trial with the metric.
        NotMeasured = "not measured",
    }
}

/// A claim with its figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    pub claim: String,
    /// Titles of the two points; the second one may be the start model.
    pub method: String,
    pub with: String,
    pub metric: String,
    pub expect: Expect,
    pub verdict: Verdict,
    /// `method` minus `with`; `None` where it was not measured.
    pub difference: Option<f64>,
    /// 95 %, over training seeds and prompts; `None` for one training seed of a metric without prompts.
    pub interval: Option<Interval>,
    /// Over prompts, corrected over all claims; `None` for a metric without prompts.
    pub test: Option<SignTest>,
    /// Training seeds of both.
    pub seeds: [usize; 2],
}

/// Name of the start model in `with` and in the answer.
pub const START_MODEL: &str = "start model";

/// Metrics of the claims of the file.
pub fn metrics(folder: &Folder) -> Vec<Metric> {
    folder.sweep.claims.iter().map(|claim| metric(folder, claim)).collect()
}

fn metric(folder: &Folder, claim: &Claim) -> Metric {
    Metric::of(claim.metric.as_ref().unwrap_or(&folder.sweep.rank_by), folder.sweep.eval.as_ref())
}

/// Judges the claims of the file by the best row of each method.
///
/// # Errors
/// Damaged metrics.
pub fn judged(folder: &Folder, rows: &[Row], points: &[(usize, Vec<Measured>)]) -> Result<Vec<Judgement>> {
    let mut all = Vec::new();
    for claim in &folder.sweep.claims {
        all.push(judgement(folder, claim, rows, points)?);
    }
    holm(all.iter_mut().filter_map(|judgement| judgement.test.as_mut()).collect());
    for judgement in &mut all {
        judgement.verdict = verdict(judgement);
    }
    Ok(all)
}

fn judgement(folder: &Folder, claim: &Claim, rows: &[Row], points: &[(usize, Vec<Measured>)]) -> Result<Judgement> {
    let metric = metric(folder, claim);
    let find = |method: &str| {
        let row = rows.iter().find(|row| row.method == method)?;
        points.iter().find(|(point, _)| *point == row.point).map(|(_, trials)| (row, trials))
    };
    let (own, other) = (find(&claim.method), claim.with.as_deref().and_then(find));
    let title =
        |found: Option<(&Row, &Vec<Measured>)>, name: &str| found.map_or(name.into(), |(row, _)| row.title.clone());
    let seeds = |found: Option<(&Row, &Vec<Measured>)>| found.map_or(0, |(row, _)| row.seeds.len());
    let mut judgement = Judgement {
        claim: claim.claim.clone(),
        method: title(own, &claim.method),
        with: claim.with.as_ref().map_or(START_MODEL.into(), |with| title(other, with)),
        metric: metric.name(),
        expect: claim.expect,
        verdict: Verdict::NotMeasured,
        difference: None,
        interval: None,
        test: None,
        seeds: [seeds(own), seeds(other)],
    };
    let Some((_, own)) = own else { return Ok(judgement) };
    if claim.with.is_some() && other.is_none() {
        return Ok(judgement);
    }
    let own = values(&metric, own)?;
    let other = other.map(|(_, trials)| values(&metric, trials)).transpose()?.flatten();
    match (own, other) {
        (Some(own @ Values::PerPrompt { .. }), other) => {
            let both = [Some(own), other];
            let interval = over_prompts(&both, claim.with.is_some());
            judgement.difference = interval.map(|interval| interval.mean);
            judgement.interval = interval;
            judgement.test = interval.and_then(|_| tested(&both[0], &both[1], Better::Higher));
        }
        (Some(Values::PerSeed(own)), Some(Values::PerSeed(other))) => {
            let interval = over_seeds(&own, &other);
            judgement.difference = interval.map(|interval| interval.mean);
            judgement.interval = interval.filter(|_| own.len() > 1 && other.len() > 1);
        }
        _ => (),
    }
    Ok(judgement)
}

/// The difference of two points, or of the first one to its start model.
fn over_prompts(both: &[Option<Values>; 2], two: bool) -> Option<Interval> {
    let drawn = resampled(both);
    let (own, start) = drawn.first()?.as_ref()?;
    let other = if two { &drawn.get(1)?.as_ref()?.0 } else { start };
    Some(own.minus(other))
}

/// Points with equally many training seeds share the drawn ones.
fn over_seeds(own: &[f64], other: &[f64]) -> Option<Interval> {
    let column = |values: &[f64]| values.iter().map(|value| vec![*value]).collect::<Vec<_>>();
    let [own, other]: [Resampled; 2] = crossed_bootstrap(&[column(own), column(other)])?.try_into().ok()?;
    Some(own.minus(&other))
}

fn verdict(judgement: &Judgement) -> Verdict {
    if judgement.difference.is_none() {
        return Verdict::NotMeasured;
    }
    let Some(interval) = judgement.interval else { return Verdict::NotTold };
    let real = judgement.test.is_none_or(|test| test.p_holm < LEVEL);
    let (above, below) = (interval.lo > 0.0 && real, interval.hi < 0.0 && real);
    match (judgement.expect, above, below) {
        (Expect::Above, true, _) | (Expect::Below, _, true) => Verdict::Holds,
        (Expect::Above, _, true) | (Expect::Below, true, _) => Verdict::Opposite,
        (Expect::Above | Expect::Below, false, false) => Verdict::NotTold,
    }
}
