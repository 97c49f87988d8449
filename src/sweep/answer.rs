//! The answer of a sweep: `answer.json`. It depends on the files of the trials alone: a sweep that was killed and
//! continued has the same bytes as one that was not.

use super::asha::rank;
use super::choice::{Choice, holds};
use super::claims::{self, Judgement};
use super::effects::{main_effects, pareto_front};
use super::file::Direction;
use super::folder::Folder;
use super::ledger::{Entries, Status};
use super::metric::{Form, Metric};
use super::plan::Made;
use super::points::{Measured, measured};
use super::row::{Chosen, ChosenFrom, Column, Effect, Failure, Row};
use super::significance::{compare, figures};
use super::work::Work;
use crate::keys::{ConfigError, nearest};
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    pub question: String,
    /// The first one ranks; the second one, if the sweep names one, is that of the Pareto front.
    pub columns: Vec<Column>,
    /// The condition that ranks points behind all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require: Option<String>,
    /// The best first.
    pub rows: Vec<Row>,
    /// Claims of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Judgement>,
    pub effects: Vec<Effect>,
    /// Ranks of the rows that none beats in both metrics.
    pub pareto_front: Vec<usize>,
    /// Choices of a sweep with [choose].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Chosen>,
    pub failed: Vec<Failure>,
    /// Trials of the answer that are not finished.
    pub open: Vec<String>,
}

/// Files behind an answer, for its page.
pub struct Found {
    pub answer: Answer,
    /// Trials by point.
    pub points: BTreeMap<usize, Vec<Measured>>,
}

impl Answer {
    /// Computes the answer from the finished trials.
    ///
    /// # Errors
    /// Damaged files of a trial, and a metric that no finished trial has.
    pub fn of(folder: &Folder, entries: &Entries) -> Result<Found> {
        let plan = &folder.plan;
        let methods = 0..plan.methods.len();
        let choices = methods.map(|method| Choice::of(folder, entries, method)).collect::<Result<Vec<_>>>()?;
        let points = measured(folder, entries, &choices)?;
        let metrics = metrics(folder);
        let columns: Vec<Column> = metrics.iter().map(|(metric, given)| column(metric, *given, &points)).collect();
        let mut of_columns = Vec::new();
        for (metric, _) in &metrics {
            let found = figures(metric, &points)?;
            if !points.is_empty() && found.iter().all(Option::is_none) {
                return Err(nobody_has(metric, &points)?.into());
            }
            of_columns.push(found);
        }
        for metric in claims::metrics(folder) {
            if !points.is_empty() && figures(&metric, &points)?.iter().all(Option::is_none) {
                return Err(nobody_has(&metric, &points)?.into());
            }
        }
        let mut rows = Vec::new();
        for (index, (point, trials)) in points.iter().enumerate() {
            rows.push(row(folder, *point, trials, of_columns.iter().map(|column| column[index].clone()).collect())?);
        }
        let order = order(&rows, columns[0].direction);
        let winner = order.first().copied().filter(|first| rows[*first].figures[0].is_some());
        for (place, (metric, _)) in metrics.iter().enumerate() {
            compare(metric, columns[place].direction, &points, winner, &mut of_columns[place])?;
            for (row, figure) in rows.iter_mut().zip(&of_columns[place]) {
                row.figures[place].clone_from(figure);
            }
        }
        let mut rows: Vec<Row> = order.into_iter().map(|index| rows[index].clone()).collect();
        rows.iter_mut().enumerate().for_each(|(index, row)| row.rank = index + 1);
        let second = folder.sweep.second.as_ref().and(columns.get(1));
        let front = second.map(|second| pareto_front(&rows, (0, &columns[0]), (1, second))).unwrap_or_default();
        let answer = Self {
            question: folder.sweep.question.clone(),
            require: folder.sweep.require.clone(),
            claims: claims::judged(folder, &rows, &points)?,
            effects: main_effects(&rows),
            pareto_front: front.into_iter().map(|index| index + 1).collect(),
            choices: chosen(folder, &choices),
            failed: failed(folder, entries),
            open: open(folder, entries, &rows, &choices),
            columns,
            rows,
        };
        Ok(Found { answer, points: points.into_iter().collect() })
    }

    /// The row that the sweep is about; `None` without a finished trial that has the metric.
    pub fn winner(&self) -> Option<&Row> {
        self.rows.first().filter(|row| row.figures.first().is_some_and(Option::is_some))
    }
}

/// Metrics of the answer with the directions that the file gives, each once.
pub fn metrics(folder: &Folder) -> Vec<(Metric, Option<Direction>)> {
    let sweep = &folder.sweep;
    let named = [(Some(&sweep.rank_by), sweep.direction), (sweep.second.as_ref(), sweep.second_direction)];
    let shown = sweep.show.iter().map(|name| (Some(name), None));
    let mut metrics: Vec<(Metric, Option<Direction>)> = Vec::new();
    for (name, direction) in named.into_iter().chain(shown) {
        let metric = name.map(|name| Metric::of(name, sweep.eval.as_ref()));
        if let Some(metric) = metric.filter(|metric| metrics.iter().all(|(known, _)| known != metric)) {
            metrics.push((metric, direction));
        }
    }
    metrics
}

fn column(metric: &Metric, given: Option<Direction>, points: &[(usize, Vec<Measured>)]) -> Column {
    let judged = points.iter().flat_map(|(_, trials)| trials).find_map(|trial| trial.judged.as_ref());
    let measure = judged.and_then(|judged| judged.measure(metric));
    let share = match metric {
        Metric::Figure { form: Form::WinRate | Form::BestThird, .. } => true,
        Metric::Figure { form: Form::Mean, .. } => measure.is_some_and(|measure| measure.is_share()),
        Metric::Training(_) => false,
    };
    Column { name: metric.name(), direction: metric.direction(given, measure.map(|measure| measure.better)), share }
}

/// The error for a metric that no trial has, with the nearest one that some trial has.
fn nobody_has(metric: &Metric, points: &[(usize, Vec<Measured>)]) -> Result<ConfigError> {
    let mut known = BTreeSet::new();
    for trial in points.iter().flat_map(|(_, trials)| trials) {
        known.extend(trial.numbers()?.into_keys());
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let name = metric.name();
    let hint = nearest(&name, &known).map_or(String::new(), |near| format!(", did you mean {near}?"));
    Ok(ConfigError(format!(
        "no finished trial has the metric {name}{hint} Known: {}. Correct it in the sweep file and start the sweep again: its trials are kept.",
        known.join(", ")
    )))
}

fn row(folder: &Folder, point: usize, trials: &[Measured], figures: Vec<Option<super::row::Figure>>) -> Result<Row> {
    let (plan, of) = (&folder.plan, &folder.plan.points[point]);
    let mut allowed = true;
    if let Some(text) = &folder.sweep.require {
        let all = trials.iter().map(Measured::numbers).collect::<Result<Vec<_>>>()?;
        allowed = holds(text, &means(&all))?;
    }
    Ok(Row {
        rank: 0,
        title: plan.title(point),
        method: plan.methods[of.method].clone(),
        coordinates: of.coordinates.clone(),
        trials: trials.iter().map(|trial| trial.number).collect(),
        seeds: trials.iter().map(|trial| trial.seed).collect(),
        steps: trials.iter().filter_map(|trial| trial.steps).min(),
        allowed,
        figures,
        point,
    })
}

/// Means over trials of the numbers that all of them have.
fn means(all: &[BTreeMap<String, f64>]) -> BTreeMap<String, f64> {
    let Some(first) = all.first() else { return BTreeMap::new() };
    let mean = |name: &String| {
        let values = all.iter().map(|numbers| numbers.get(name).copied()).collect::<Option<Vec<f64>>>()?;
        crate::numbers::mean(values)
    };
    first.keys().filter_map(|name| Some((name.clone(), mean(name)?))).collect()
}

/// Allowed rows first, then those of a higher rung, then by the first metric.
fn order(rows: &[Row], direction: Direction) -> Vec<usize> {
    let value = |row: &Row| row.figures[0].as_ref().map(|figure| figure.mean);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&rows[*a], &rows[*b]);
        let first = b.allowed.cmp(&a.allowed).then(b.steps.cmp(&a.steps));
        first.then(rank(value(a), value(b), direction)).then(a.point.cmp(&b.point))
    });
    order
}

fn chosen(folder: &Folder, choices: &[Choice]) -> Vec<Chosen> {
    if folder.sweep.choose.is_none() {
        return Vec::new();
    }
    let plan = &folder.plan;
    let of_method = |(method, choice): (usize, &Choice)| match choice {
        Choice::Open => None,
        Choice::Made { candidates, .. } if candidates.is_empty() => None,
        Choice::Made { point, candidates } => Some(Chosen {
            method: plan.methods[method].clone(),
            chosen: point.map(|point| plan.title(point)),
            candidates: candidates
                .iter()
                .map(|candidate| ChosenFrom { title: plan.title(candidate.point), candidate: candidate.clone() })
                .collect(),
        }),
    };
    let trained =
        |method: usize| plan.of_method(method).any(|point| matches!(plan.points[point].made, Made::Trained { .. }));
    choices.iter().enumerate().filter(|(method, _)| trained(*method)).filter_map(of_method).collect()
}

/// Failed work of trials that the sweep still has.
pub fn failed(folder: &Folder, entries: &Entries) -> Vec<Failure> {
    let failure = |(work, entry): (&Work, &super::ledger::Entry)| {
        let trial = folder.plan.trial(work.trial)?;
        (entry.status == Status::Failed).then(|| Failure {
            trial: work.trial,
            name: folder.plan.name(trial),
            stage: work.stage.name().into(),
            reason: entry.reason.clone().unwrap_or_default(),
        })
    };
    entries.iter().filter_map(failure).collect()
}

/// Names of trials that the answer lacks and that did not fail.
fn open(folder: &Folder, entries: &Entries, rows: &[Row], choices: &[Choice]) -> Vec<String> {
    let failed: BTreeSet<usize> = failed(folder, entries).into_iter().map(|failure| failure.trial).collect();
    let there: BTreeSet<usize> = rows.iter().flat_map(|row| row.trials.clone()).collect();
    let belongs = |point: usize| match (&folder.sweep.choose, &choices[folder.plan.points[point].method]) {
        (None, _) | (Some(_), Choice::Open) => true,
        (Some(_), Choice::Made { point: chosen, candidates }) => candidates.is_empty() || *chosen == Some(point),
    };
    let lacks = |trial: &&super::plan::Trial| {
        let shared = trial.training.as_ref().is_some_and(|training| failed.contains(&training.owner));
        belongs(trial.point) && !there.contains(&trial.number) && !failed.contains(&trial.number) && !shared
    };
    folder.plan.trials.iter().filter(lacks).map(|trial| folder.plan.name(trial)).collect()
}
