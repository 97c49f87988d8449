//! Intervals of a column, and which differences in it are real.

use super::file::Direction;
use super::metric::Metric;
use super::points::Measured;
use super::row::{Difference, Figure};
use crate::metrics::evaluation::{Interval, SignTest};
use crate::metrics::intervals::{Resampled, crossed_bootstrap};
use crate::metrics::signs::{holm, sign_test};
use crate::numbers::mean;
use crate::scorers::Better;
use anyhow::Result;

/// A metric of one point, before it is compared.
pub enum Values {
    /// `[seed][prompt]` of the point, and `[prompt]` of the start model.
    PerPrompt {
        trials: Vec<Vec<f64>>,
        start: Vec<f64>,
    },
    PerSeed(Vec<f64>),
}

/// The figures of a column: one per point, in their order; `None` where no trial of the point has the metric.
///
/// # Errors
/// Damaged metrics.
pub fn figures(metric: &Metric, points: &[(usize, Vec<Measured>)]) -> Result<Vec<Option<Figure>>> {
    let values = points.iter().map(|(_, trials)| values(metric, trials)).collect::<Result<Vec<_>>>()?;
    let resampled = resampled(&values);
    let mut figures = Vec::with_capacity(points.len());
    for (index, (values, (_, trials))) in values.iter().zip(points).enumerate() {
        figures.push(match values {
            None => None,
            Some(Values::PerSeed(per_seed)) => Some(of_seeds(metric, per_seed, trials)?),
            Some(Values::PerPrompt { trials, .. }) => {
                resampled.get(index).and_then(Option::as_ref).map(|(own, start)| Figure {
                    mean: own.mean,
                    interval: Some(own.interval()),
                    per_seed: trials.iter().filter_map(mean).collect(),
                    start: Some(start.interval()),
                    against_start: None,
                    against_winner: None,
                })
            }
        });
    }
    Ok(figures)
}

/// Adds the paired differences to the start model and to the winner, and tests them; Holm's correction is over all tests
/// of the column.
///
/// # Errors
/// Damaged metrics.
pub fn compare(
    metric: &Metric,
    direction: Direction,
    points: &[(usize, Vec<Measured>)],
    winner: Option<usize>,
    figures: &mut [Option<Figure>],
) -> Result<()> {
    let values = points.iter().map(|(_, trials)| values(metric, trials)).collect::<Result<Vec<_>>>()?;
    let resampled = resampled(&values);
    let better = match direction {
        Direction::Max => Better::Higher,
        Direction::Min => Better::Lower,
    };
    let per_prompt = |index: usize| match values.get(index) {
        Some(Some(Values::PerPrompt { trials, start })) => Some((pooled(trials), start.clone())),
        _ => None,
    };
    for (index, figure) in figures.iter_mut().enumerate() {
        let (Some(figure), Some((own, start)), Some(Some((mean, start_mean)))) =
            (figure, per_prompt(index), resampled.get(index))
        else {
            continue;
        };
        figure.against_start =
            Some(Difference { interval: mean.minus(start_mean), test: sign_test(&start, &own, better) });
        if let Some((best, Some(Some((best_mean, _))))) =
            winner.filter(|winner| *winner != index).map(|w| (w, resampled.get(w)))
            && let Some((best, _)) = per_prompt(best)
        {
            let test = sign_test(&best, &own, better);
            figure.against_winner = Some(Difference { interval: mean.minus(best_mean), test });
        }
    }
    let tests = figures.iter_mut().flatten().flat_map(|f| [f.against_start.as_mut(), f.against_winner.as_mut()]);
    holm(tests.flatten().map(|difference| &mut difference.test).collect::<Vec<&mut SignTest>>());
    Ok(())
}

/// The values of a point; `None` if one of its trials lacks the metric.
///
/// # Errors
/// Damaged metrics.
pub fn values(metric: &Metric, trials: &[Measured]) -> Result<Option<Values>> {
    let per_prompt: Vec<_> = trials.iter().filter_map(|trial| trial.judged.as_ref()?.per_prompt(metric)).collect();
    if per_prompt.len() == trials.len() && !per_prompt.is_empty() {
        let start = per_prompt[0].start.clone();
        return Ok(Some(Values::PerPrompt { trials: per_prompt.into_iter().map(|per| per.trial).collect(), start }));
    }
    let numbers = trials.iter().map(|trial| trial.number(metric)).collect::<Result<Option<Vec<f64>>>>()?;
    Ok(numbers.map(Values::PerSeed))
}

/// Resampled means of every point and of its start model, with the same draws for all.
pub fn resampled(values: &[Option<Values>]) -> Vec<Option<(Resampled, Resampled)>> {
    let mut all = Vec::new();
    for value in values.iter().flatten() {
        if let Values::PerPrompt { trials, start } = value {
            all.push(trials.clone());
            all.push(vec![start.clone()]);
        }
    }
    let mut drawn = crossed_bootstrap(&all).unwrap_or_default().into_iter();
    let both = |value: &Option<Values>| match value {
        Some(Values::PerPrompt { .. }) => drawn.next().zip(drawn.next()),
        Some(Values::PerSeed(_)) | None => None,
    };
    values.iter().map(both).collect()
}

/// Sign test over prompts of a point against another one, or against its start model.
pub fn tested(own: &Option<Values>, other: &Option<Values>, better: Better) -> Option<SignTest> {
    let Some(Values::PerPrompt { trials, start }) = own else { return None };
    let other = match other {
        Some(Values::PerPrompt { trials, .. }) => pooled(trials),
        Some(Values::PerSeed(_)) | None => start.clone(),
    };
    Some(sign_test(&other, &pooled(trials), better))
}

fn pooled(trials: &[Vec<f64>]) -> Vec<f64> {
    let prompts = trials.first().map_or(0, Vec::len);
    (0..prompts).filter_map(|prompt| mean(trials.iter().map(|values| values[prompt]))).collect()
}

/// With several seeds the interval is over seeds; with one that of the metric itself, where the run logs it.
fn of_seeds(metric: &Metric, per_seed: &[f64], trials: &[Measured]) -> Result<Figure> {
    let centre = mean(per_seed).unwrap_or(f64::NAN);
    let interval = match per_seed.len() {
        1 => {
            let end = |name: &str| trials[0].number(&Metric::Training(format!("{}_{name}", metric.name())));
            end("lo")?.zip(end("hi")?).map(|(lo, hi)| Interval { mean: centre, lo, hi })
        }
        _ => {
            let seeds: Vec<Vec<f64>> = per_seed.iter().map(|value| vec![*value]).collect();
            crossed_bootstrap(&[seeds]).and_then(|drawn| drawn.first().map(Resampled::interval))
        }
    };
    Ok(Figure {
        mean: centre,
        interval,
        per_seed: per_seed.to_vec(),
        start: None,
        against_start: None,
        against_winner: None,
    })
}
