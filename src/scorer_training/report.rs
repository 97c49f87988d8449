//! report.html of a scorer's training: figures on held-out pairs and the curve of the loss, in one self-contained file.

use super::figures::Figures;
use super::line::Line;
use super::settings::Settings;
use super::work::Work;
use crate::report::plots::{Curve, Frame, curves};
use crate::report::template;
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;

/// Variables of the template.
#[derive(Serialize)]
struct Page {
    method: String,
    model: String,
    data: String,
    train: usize,
    validation: usize,
    steps: u64,
    figures: Vec<(&'static str, String)>,
    /// User and accuracy.
    users: Vec<(String, String)>,
    /// Accuracy by tenth of the gap, per cent.
    gaps: Vec<f64>,
    dimensions: Vec<String>,
    /// Dimension, its accuracy on the labels of each.
    matrix: Vec<(String, Vec<String>)>,
    loss: Option<String>,
    accuracy: Option<String>,
}

/// Metrics of all steps; none for an ensemble, whose members have their own.
///
/// # Errors
/// A damaged file.
pub fn lines(metrics: &Path) -> Result<Vec<Line>> {
    if !metrics.is_file() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(metrics).with_context(|| format!("cannot read {}", metrics.display()))?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Line>, _>>();
    lines.with_context(|| format!("{} is damaged", metrics.display()))
}

/// The page.
///
/// # Errors
/// Curves that cannot be drawn.
pub fn html(lines: &[Line], settings: &Settings, work: &Work, figures: &Figures) -> Result<String> {
    let frame = Frame { width: 900, height: 260, reference: None };
    let loss = lines.iter().map(|line| (line.step as f64, line.loss)).collect();
    let held_out = lines.iter().filter_map(|line| Some((line.step as f64, line.validation.as_ref()?.accuracy?.mean)));
    let (train, validation) = match work {
        Work::Judged { corpus, .. } => (corpus.train.len(), corpus.validation.len()),
        Work::Captions(captioned) => (captioned.captions.len(), 0),
    };
    let dimensions: Vec<String> = figures.dimensions.keys().cloned().collect();
    let row = |name: &String| {
        let of = figures.dimensions.get(name);
        let cells = dimensions.iter().map(|b| of.and_then(|of| of.get(b)).map_or("-".into(), |x| percent(*x)));
        (name.clone(), cells.collect())
    };
    let page = Page {
        method: settings.method.objective().to_string(),
        model: settings.model.path.display().to_string(),
        data: settings.data.path.display().to_string(),
        train,
        validation,
        steps: settings.train.steps,
        figures: listed(figures),
        users: figures.by_user.iter().map(|(user, accuracy)| (user.clone(), percent(*accuracy))).collect(),
        gaps: figures.by_gap.iter().map(|accuracy| accuracy * 100.0).collect(),
        matrix: dimensions.iter().map(row).collect(),
        dimensions,
        loss: curves(&[Curve::noisy("loss", loss)], &frame)?,
        accuracy: curves(&[Curve::marked("held-out accuracy", held_out.collect())], &frame)?,
    };
    template::filled("scorer.html", include_str!("scorer.html"), &page)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Figures in words, for the page and the terminal.
pub fn listed(figures: &Figures) -> Vec<(&'static str, String)> {
    let number = |x: f64| format!("{x:.4}");
    let accuracy = figures.accuracy.map(|a| format!("{} [{}, {}]", percent(a.mean), percent(a.lo), percent(a.hi)));
    let rows = [
        ("accuracy, ties half", accuracy),
        ("pairs", (figures.pairs > 0).then(|| format!("{}, {} of them ties", figures.pairs, figures.ties))),
        ("accuracy without ties", figures.accuracy_without_ties.map(percent)),
        ("Kendall's tau of lists", figures.kendall_tau.map(number)),
        ("expected calibration error", figures.ece.map(number)),
        ("fitted temperature", figures.temperature.map(number)),
        ("calibration error at it", figures.ece_at_temperature.map(number)),
        ("pictures nearest to their caption", figures.retrieval.map(percent)),
    ];
    rows.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}
