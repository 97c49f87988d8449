//! The page of `runs compare`: settings that differ, newest values, and curves on top of each other.

use super::record::Record;
use super::table::plain;
use crate::report::metrics::{Metrics, Series};
use crate::report::plots::{Curve, Frame, MOST_CURVES, colours, curves};
use crate::report::template;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Curves of the page, where two runs or more have them.
const CURVES: [&str; 8] =
    ["val_margin", "val_implicit_acc", "loss", "implicit_acc", "margin", "val_gap_w", "val_gap_l", "val_reward_gain"];

#[derive(Serialize)]
struct Page {
    names: Vec<String>,
    colours: Vec<String>,
    /// (key, a value per run)
    settings: Vec<(String, Vec<String>)>,
    metrics: Vec<(String, Vec<String>)>,
    /// (metric, svg)
    plots: Vec<(String, String)>,
}

/// The page of several runs. `root`: folder of the database.
///
/// # Errors
/// Damaged metrics of a run.
pub fn html(root: &Path, records: &[Record]) -> Result<String> {
    let metrics = records.iter().map(|record| Metrics::read(&root.join(&record.path).join("metrics.jsonl")));
    let metrics = metrics.collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = records.iter().map(|record| record.path.clone()).collect();
    let frame = Frame { width: 560, height: 260, reference: None };
    let mut plots = Vec::new();
    for key in CURVES {
        let lines = names.iter().zip(&metrics).map(|(name, metrics)| Ok(curve(key, name, series(metrics, key)?)));
        let lines = lines.take(MOST_CURVES).collect::<Result<Vec<Curve>>>()?;
        plots.extend(curves(&lines, &frame)?.map(|svg| (key.to_string(), svg)));
    }
    let page = Page {
        colours: colours().into_iter().take(names.len()).collect(),
        settings: rows(records, true),
        metrics: rows(records, false),
        names,
        plots,
    };
    template::filled("compare.html", include_str!("compare.html"), &page)
}

fn curve(key: &str, name: &str, points: Series) -> Curve {
    if key.starts_with("val_") { Curve::marked(name, points) } else { Curve::noisy(name, points) }
}

/// A metric over the steps of a run, by its key.
///
/// # Errors
/// None in practice: every line has a form in JSON.
pub fn series(metrics: &Metrics, key: &str) -> Result<Series> {
    let mut points = Series::new();
    for line in metrics.lines() {
        let value = line.numbers()?.get(key).and_then(serde_json::Value::as_f64);
        points.extend(value.filter(|value| value.is_finite()).map(|value| (line.step as f64, value)));
    }
    Ok(points)
}

/// Settings that differ between the runs, or all metrics.
fn rows(records: &[Record], settings: bool) -> Vec<(String, Vec<String>)> {
    let of = |record: &Record| if settings { record.settings.clone() } else { record.metrics.clone() };
    let all: Vec<_> = records.iter().map(of).collect();
    let keys: BTreeSet<&String> = all.iter().flat_map(|values| values.keys()).collect();
    let cells = |key: &String| -> Vec<String> {
        all.iter().map(|values| values.get(key).map_or(String::new(), plain)).collect()
    };
    let differs = |cells: &[String]| cells.iter().any(|cell| cell != &cells[0]);
    let rows = keys.into_iter().map(|key| (key.clone(), cells(key)));
    rows.filter(|(key, cells)| !settings || (differs(cells) && key != "train.out")).collect()
}
