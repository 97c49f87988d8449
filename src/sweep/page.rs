//! report.html of a sweep, and the files beside it.

use super::answer::{Answer, Found};
use super::claims::Judgement;
use super::curves::{Overlaid, overlaid};
use super::folder::Folder;
use super::markdown;
use super::row::{Column, Difference, Figure, Row};
use super::text::{difference, interval, measured, settled, value};
use super::winner;
use crate::machine::files::write_atomically;
use crate::report::pictures::{PictureRow, inline};
use crate::report::plots::{Frame, scatter};
use crate::report::template;
use anyhow::Result;
use serde::Serialize;

/// Prompts whose pictures are shown.
const PROMPTS: usize = 6;

#[derive(Serialize)]
struct Page<'a> {
    title: String,
    findings: Vec<String>,
    claims: Vec<Judged<'a>>,
    columns: &'a [Column],
    rows: Vec<Line>,
    choices: &'a [super::row::Chosen],
    effects: Vec<Bars>,
    front: Option<Front>,
    curves: Vec<Overlaid>,
    /// Pictures of the start model and the winner.
    pictures: Vec<PictureRow>,
    failed: &'a [super::row::Failure],
    open: &'a [String],
    winner: Option<String>,
}

/// A claim, its verdict and figures.
#[derive(Serialize)]
struct Judged<'a> {
    #[serde(flatten)]
    judgement: &'a Judgement,
    measured: String,
}

#[derive(Serialize)]
struct Line {
    rank: usize,
    title: String,
    seeds: String,
    steps: Option<u64>,
    allowed: bool,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    value: String,
    interval: String,
    start: String,
    winner: String,
}

#[derive(Serialize)]
struct Bars {
    title: String,
    /// (value, mean, per cent of the width, points)
    bars: Vec<(String, String, f64, usize)>,
}

#[derive(Serialize)]
struct Front {
    svg: String,
    x: String,
    y: String,
    titles: Vec<(usize, String)>,
}

/// Computes the answer and writes answer.json, answer.md, report.html and winner.toml.
///
/// # Errors
/// As [`Answer::of`]; an unwritable folder.
pub fn write(folder: &Folder, entries: &super::ledger::Entries) -> Result<Answer> {
    let found = Answer::of(folder, entries)?;
    let answer = &found.answer;
    let winner = winner::toml(folder, answer)?;
    let page = Page {
        title: title(folder, answer),
        findings: settled(answer),
        claims: answer
            .claims
            .iter()
            .map(|judgement| Judged { judgement, measured: measured(answer, judgement) })
            .collect(),
        columns: &answer.columns,
        rows: answer.rows.iter().map(|row| line(row, &answer.columns)).collect(),
        choices: &answer.choices,
        effects: answer.effects.iter().map(|effect| bars(effect, &answer.columns[0])).collect(),
        front: front(answer)?,
        curves: overlaid(folder, &found)?,
        pictures: pictures(&found)?,
        failed: &answer.failed,
        open: &answer.open,
        winner: winner.clone(),
    };
    let html = template::filled("sweep.html", include_str!("sweep.html"), &page)?;
    let mut json = serde_json::to_vec_pretty(answer)?;
    json.push(b'\n');
    write_atomically(&folder.path.join("answer.json"), &json)?;
    if let Some(toml) = winner {
        write_atomically(&folder.path.join("winner.toml"), toml.as_bytes())?;
    }
    let markdown = markdown::page(folder, entries, answer);
    write_atomically(&folder.path.join("answer.md"), markdown.as_bytes())?;
    write_atomically(&folder.path.join("report.html"), html.as_bytes())?;
    Ok(found.answer)
}

fn title(folder: &Folder, answer: &Answer) -> String {
    let name = folder.path.file_name().map_or("sweep".into(), |name| name.to_string_lossy().into_owned());
    if answer.question.is_empty() { format!("Sweep {name}") } else { answer.question.clone() }
}

fn line(row: &Row, columns: &[Column]) -> Line {
    let cell = |(figure, column): (&Option<Figure>, &Column)| match figure {
        None => Cell { value: "no value".into(), interval: String::new(), start: String::new(), winner: String::new() },
        Some(figure) => {
            let against = |d: &Option<Difference>| d.as_ref().map_or(String::new(), |d| difference(d, column));
            Cell {
                value: value(figure.mean, column),
                interval: figure.interval.map_or(String::new(), |i| interval(&i, column)),
                start: against(&figure.against_start),
                winner: against(&figure.against_winner),
            }
        }
    };
    Line {
        rank: row.rank,
        title: row.title.clone(),
        seeds: row.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
        steps: row.steps,
        allowed: row.allowed,
        cells: row.figures.iter().zip(columns).map(cell).collect(),
    }
}

fn bars(effect: &super::row::Effect, column: &Column) -> Bars {
    let means = || effect.values.iter().map(|value| value.mean);
    let (low, high) = (means().fold(f64::INFINITY, f64::min), means().fold(f64::NEG_INFINITY, f64::max));
    let from = low.min(0.0);
    let width = |mean: f64| if high.max(0.0) > from { (mean - from) / (high.max(0.0) - from) * 100.0 } else { 0.0 };
    let method = if effect.method.is_empty() { String::new() } else { format!("{}: ", effect.method) };
    Bars {
        title: format!("{method}{}", effect.axis),
        bars: effect.values.iter().map(|v| (v.value.clone(), value(v.mean, column), width(v.mean), v.points)).collect(),
    }
}

fn front(answer: &Answer) -> Result<Option<Front>> {
    if answer.pareto_front.is_empty() {
        return Ok(None);
    }
    let mean = |row: &Row, column: usize| row.figures.get(column)?.as_ref().map(|figure| figure.mean);
    let points: Vec<(f64, f64, bool)> = answer
        .rows
        .iter()
        .filter_map(|row| Some((mean(row, 0)?, mean(row, 1)?, answer.pareto_front.contains(&row.rank))))
        .collect();
    let svg = scatter(&points, &Frame { width: 760, height: 320, reference: None })?;
    let titles = answer.rows.iter().filter(|row| answer.pareto_front.contains(&row.rank));
    let titles = titles.map(|row| (row.rank, row.title.clone())).collect();
    let name = |column: usize| answer.columns.get(column).map_or(String::new(), |column| column.name.clone());
    Ok(svg.map(|svg| Front { svg, x: name(0), y: name(1), titles }))
}

/// Pictures of the start model and of the winner from the same noise.
fn pictures(found: &Found) -> Result<Vec<PictureRow>> {
    let trial = found.answer.winner().and_then(|row| found.points.get(&row.point)).and_then(|trials| trials.first());
    let Some(judged) = trial.and_then(|trial| trial.judged.as_ref()) else { return Ok(Vec::new()) };
    let evaluation = &judged.evaluation;
    let side = |files: &[std::path::PathBuf]| {
        files.iter().map(|file| inline(&evaluation.folder.join(file)).map(Some)).collect::<Result<Vec<_>>>()
    };
    let mut rows = Vec::new();
    for row in evaluation.gallery.iter().take(PROMPTS) {
        if let [start, trial] = row.files.as_slice() {
            let sides = vec![side(start)?, side(trial)?];
            rows.push(PictureRow { prompt: row.prompt.clone(), note: String::new(), sides });
        }
    }
    Ok(rows)
}
