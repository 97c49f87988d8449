//! report.html of `diffpref score`: figures, histograms, agreement, best and worst pictures, in one self-contained file.

use super::output::ScoredRow;
use super::summary::{Column, Comparisons, ScoredBy, Summary, Unreadable};
use crate::report::pictures::thumbnail;
use crate::report::{histogram, template};
use crate::scorers::{Better, Measure};
use anyhow::Result;
use serde::Serialize;
use std::path::Path;

/// Best and worst pictures per measure.
const SHOWN: usize = 6;
/// Larger side of a picture in the page, in pixels.
const SIDE: u32 = 160;

/// Variables of the template.
#[derive(Serialize)]
struct Page {
    rows: usize,
    pictures: usize,
    prompts: usize,
    seconds: String,
    unreadable: Vec<Unreadable>,
    scorers: Vec<ScorerBox>,
    /// Both measures, Pearson, tau-b, tau-b within prompts.
    agreement: Vec<[String; 5]>,
}

#[derive(Serialize)]
struct MeasureBox {
    title: String,
    better: &'static str,
    figures: Vec<(&'static str, String)>,
    /// Ends of the histogram.
    from: String,
    to: String,
    /// Per cent of the highest column.
    heights: Vec<f64>,
    best: Vec<Shown>,
    worst: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    picture: String,
    prompt: String,
    number: String,
}

#[derive(Serialize)]
struct ScorerBox {
    name: String,
    speed: String,
    measures: Vec<MeasureBox>,
}

/// The page. `out`: folder that the rows' paths are relative to.
///
/// # Errors
/// A picture that cannot be read any more.
pub fn html(summary: &Summary, rows: &[ScoredRow], out: &Path) -> Result<String> {
    let scorers = summary.scorers.iter().map(|scorer| scorer_box(scorer, rows, out)).collect::<Result<Vec<_>>>()?;
    let text = |number: Option<f64>| number.map_or("-".to_string(), |number| format!("{number:.2}"));
    let agreement = summary
        .agreement
        .iter()
        .map(|a| [a.a.clone(), a.b.clone(), text(a.pearson), text(a.tau_b), text(a.tau_b_within)])
        .collect();
    let page = Page {
        rows: summary.rows,
        pictures: summary.pictures,
        prompts: summary.prompts,
        seconds: format!("{:.1}", summary.seconds),
        unreadable: summary.unreadable.clone(),
        scorers,
        agreement,
    };
    template::filled("score.html", include_str!("score.html"), &page)
}

fn scorer_box(scorer: &ScoredBy, rows: &[ScoredRow], out: &Path) -> Result<ScorerBox> {
    let measure = |column: &Column| {
        let name = column.measure.name.as_ref();
        let number = |row: &ScoredRow| row.scores.get(&scorer.name)?.get(name).copied();
        let numbered: Vec<(&ScoredRow, f64)> = rows.iter().filter_map(|row| Some((row, number(row)?))).collect();
        measure_box(column, numbered, out)
    };
    Ok(ScorerBox {
        name: scorer.name.clone(),
        speed: match (&scorer.comparisons, scorer.pictures_per_s) {
            (Some(comparisons), _) => compared(comparisons),
            (None, Some(speed)) => format!("{} pictures rated, {speed:.1} per second", scorer.rated),
            (None, None) => "all pictures were rated before".into(),
        },
        measures: scorer.columns.iter().map(measure).collect::<Result<_>>()?,
    })
}

fn compared(comparisons: &Comparisons) -> String {
    let speed = comparisons.per_s.map_or(String::new(), |speed| format!(", {speed:.1} per second"));
    let order = comparisons.order_inconsistency;
    let order = order.map_or(String::new(), |off| format!("; answers depend on the order by {off:.3} in the mean"));
    format!("{} comparisons made{speed}{order}", comparisons.made)
}

fn measure_box(column: &Column, mut numbered: Vec<(&ScoredRow, f64)>, out: &Path) -> Result<MeasureBox> {
    let measure = &column.measure;
    let heights = histogram(&numbered.iter().map(|(_, number)| *number).collect::<Vec<_>>(), column.min, column.max);
    numbered.sort_by(|a, b| b.1.total_cmp(&a.1));
    if measure.better == Better::Lower {
        numbered.reverse();
    }
    let few = SHOWN.min(numbered.len().div_ceil(2));
    let show = |rows: &mut dyn Iterator<Item = &(&ScoredRow, f64)>| {
        rows.take(few).map(|(row, number)| shown(row, *number, measure, out)).collect::<Result<Vec<_>>>()
    };
    let unit = if measure.unit.is_empty() { String::new() } else { format!(" ({})", measure.unit) };
    let text = |number: f64| if measure.is_share() { measure.written(number) } else { format!("{number:.4}") };
    Ok(MeasureBox {
        title: format!("{}{unit}", measure.title()),
        better: match measure.better {
            Better::Higher => "higher is better",
            Better::Lower => "lower is better",
            Better::Neither => "neither is better",
        },
        figures: vec![
            ("mean", text(column.mean)),
            ("standard deviation", format!("{:.4}", column.std)),
            ("lowest", text(column.min)),
            ("median", text(column.median)),
            ("highest", text(column.max)),
        ],
        from: text(column.min),
        to: text(column.max),
        heights,
        best: show(&mut numbered.iter())?,
        worst: show(&mut numbered.iter().rev())?,
    })
}

fn shown(row: &ScoredRow, number: f64, measure: &Measure, out: &Path) -> Result<Shown> {
    let prompt = row.prompt.clone().unwrap_or_default();
    Ok(Shown { picture: thumbnail(&out.join(&row.picture).into(), SIDE)?, prompt, number: measure.written(number) })
}
