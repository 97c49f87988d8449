//! The lines of `metrics.jsonl` as curves.

use crate::metrics::{Gain, Line};
use crate::numbers::mean;
use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value};
use std::path::Path;

/// A value over optimizer steps, in the order of the steps.
pub type Series = Vec<(f64, f64)>;

/// All metrics of a run, one line per step.
#[derive(Debug, Default, Clone)]
pub struct Metrics {
    lines: Vec<Line>,
}

impl Metrics {
    /// Reads `metrics.jsonl`. A missing file is a run without steps. An unfinished last line is left out, because the
    /// run may be writing it.
    ///
    /// # Errors
    /// A finished line that is not a JSON object with a `step`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parsed = |(index, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|e| {
                anyhow!(
                    "{}, line {}: not a metrics line ({e}), found {line:.60}; resume the run, which cuts the file at its \
                     checkpoint, or remove the line",
                    path.display(),
                    index + 1
                )
            })
        };
        let written = whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        Ok(Self { lines: written.map(parsed).collect::<Result<_>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The newest step, 0 before the first one.
    pub fn last_step(&self) -> u64 {
        self.lines.last().map_or(0, |line| line.step)
    }

    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Adds the line of another step.
    pub fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// The finite values of a number over steps; lines without it are left out.
    pub fn series(&self, number: impl Fn(&Line) -> Option<f64>) -> Series {
        let points = self.lines.iter().filter_map(|line| Some((line.step as f64, number(line)?)));
        points.filter(|(_, value)| value.is_finite()).collect()
    }

    /// Newest gain over the start model on held-out prompts that has an interval, with its step.
    pub fn newest_gain(&self, name: &str) -> Option<(u64, Gain)> {
        self.lines.iter().rev().find_map(|line| Some((line.step, line.named.gain(name)?)))
    }

    /// Mean margin of each tenth of the noise levels over the newest `share` of the lines that have it.
    pub fn margin_by_t(&self, share: f64) -> Vec<Option<f64>> {
        let lists: Vec<&Vec<Option<f64>>> =
            self.lines.iter().map(|line| &line.margin_by_t).filter(|list| !list.is_empty()).collect();
        let recent = newest(&lists, share);
        let width = recent.iter().map(|list| list.len()).max().unwrap_or(0);
        let column = |i: usize| -> Vec<f64> {
            let values = recent.iter().filter_map(|list| *list.get(i)?);
            values.filter(|value| value.is_finite()).collect()
        };
        (0..width).map(|i| mean(column(i))).collect()
    }

    /// The newest value of every number (validation keys are in few lines).
    ///
    /// # Errors
    /// None in practice: every line has a form in JSON.
    pub fn newest_values(&self) -> Result<Map<String, Value>> {
        let mut newest = Map::new();
        for line in &self.lines {
            newest.insert("step".into(), line.step.into());
            newest.extend(line.numbers()?);
        }
        Ok(newest)
    }
}

/// The newest `share` of `items`, at least one if any.
pub fn newest<T>(items: &[T], share: f64) -> &[T] {
    let wanted = (items.len() as f64 * share).ceil() as usize;
    &items[items.len() - wanted.clamp(usize::from(!items.is_empty()), items.len())..]
}

/// At most `limit` points: means of equal groups of neighbours, which keeps long runs small on the page.
pub fn thinned(series: &[(f64, f64)], limit: usize) -> Series {
    let group = series.len().div_ceil(limit.max(1)).max(1);
    let middle = |points: &[(f64, f64)]| {
        let n = points.len() as f64;
        (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n)
    };
    series.chunks(group).map(middle).collect()
}

/// The running mean over a window of a twentieth of the points (from 5 to 100), centred.
pub fn smoothed(series: &[(f64, f64)]) -> Series {
    let half = (series.len() / 40).clamp(2, 50);
    let window = |i: usize| {
        // Symmetric at the ends too, to prevent a lag of the smoothed curve.
        let reach = half.min(i).min(series.len() - 1 - i);
        &series[i - reach..=i + reach]
    };
    (0..series.len()).filter_map(|i| Some((series[i].0, mean(window(i).iter().map(|p| p.1))?))).collect()
}
