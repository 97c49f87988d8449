//! Curves of the best points on top of each other.

use super::answer::{Found, metrics};
use super::folder::Folder;
use super::metric::Metric;
use crate::report::plots::{Curve, Frame, MOST_CURVES, colours, curves};
use crate::runs::series;
use anyhow::Result;
use serde::Serialize;

/// Curves besides those of the answer's metrics.
const USUAL: [&str; 4] = ["val_margin", "val_reward_gain", "loss", "val_gap_w"];

/// Curves of one metric.
#[derive(Serialize)]
pub struct Overlaid {
    pub metric: String,
    pub svg: String,
    /// (title, colour)
    pub legend: Vec<(String, String)>,
}

/// One drawing per training metric that some of the best points have: their first trial each.
///
/// # Errors
/// A drawing that fails.
pub fn overlaid(folder: &Folder, found: &Found) -> Result<Vec<Overlaid>> {
    let mut keys: Vec<String> = Vec::new();
    let of_answer = metrics(folder).into_iter().filter_map(|(metric, _)| match metric {
        Metric::Training(key) => Some(key),
        Metric::Figure { .. } => None,
    });
    for key in of_answer.chain(USUAL.map(String::from)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let frame = Frame { width: 560, height: 260, reference: None };
    let mut drawings = Vec::new();
    for key in keys {
        let mut lines = Vec::new();
        for row in found.answer.rows.iter().take(MOST_CURVES) {
            let trial = found.points.get(&row.point).and_then(|trials| trials.first());
            let Some(metrics) = trial.and_then(|trial| trial.metrics.as_ref()) else { continue };
            let points = series(metrics, &key)?;
            if points.len() > 1 {
                lines.push(if key.starts_with("val_") {
                    Curve::marked(&row.title, points)
                } else {
                    Curve::noisy(&row.title, points)
                });
            }
        }
        let legend = lines.iter().map(|line| line.name.clone()).zip(colours()).collect();
        drawings.extend(curves(&lines, &frame)?.map(|svg| Overlaid { metric: key, svg, legend }));
    }
    Ok(drawings)
}
