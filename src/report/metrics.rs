//! The lines of `metrics.jsonl` as curves.

use crate::numbers::mean;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

/// A value over optimizer steps, in the order of the steps.
pub type Series = Vec<(f64, f64)>;

/// All metrics of a run, one row per step.
#[derive(Debug, Default, Clone)]
pub struct Metrics {
    rows: Vec<Map<String, Value>>,
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
        let mut rows = Vec::new();
        for (index, line) in whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str::<Value>(line) {
                Ok(Value::Object(row)) if row.get("step").is_some_and(Value::is_number) => rows.push(row),
                Ok(_) => bail!(
                    "{}, line {}: expected an object with `step`, found {line:.60}; resume the run, which cuts the \
                     file at its checkpoint, or remove the line",
                    path.display(),
                    index + 1
                ),
                Err(e) => bail!(
                    "{}, line {}: not JSON ({e}); resume the run, which cuts the file at its checkpoint, or remove the line",
                    path.display(),
                    index + 1
                ),
            }
        }
        Ok(Self { rows })
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The newest step, 0 before the first one.
    pub fn last_step(&self) -> u64 {
        self.rows.last().and_then(|row| row.get("step")).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The newest row.
    pub fn last(&self) -> Option<&Map<String, Value>> {
        self.rows.last()
    }

    /// Keys with this prefix, sorted.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let keys: BTreeSet<&String> =
            self.rows.iter().flat_map(Map::keys).filter(|key| key.starts_with(prefix)).collect();
        keys.into_iter().cloned().collect()
    }

    /// Adds the row of another step.
    pub fn push(&mut self, row: Map<String, Value>) {
        self.rows.push(row);
    }

    /// The finite values of a key over steps; rows without it (or with null or NaN) are left out.
    pub fn series(&self, key: &str) -> Series {
        let number = |row: &Map<String, Value>, key: &str| row.get(key).and_then(Value::as_f64);
        let points = self.rows.iter().filter_map(|row| Some((number(row, "step")?, number(row, key)?)));
        points.filter(|(_, value)| value.is_finite()).collect()
    }

    /// Means of the elements of a list-valued key over the newest `share` of its rows; `None` for an element without
    /// a value.
    pub fn recent_means(&self, key: &str, share: f64) -> Vec<Option<f64>> {
        let lists: Vec<&Vec<Value>> = self.rows.iter().filter_map(|row| row.get(key)?.as_array()).collect();
        let recent = newest(&lists, share);
        let width = recent.iter().map(|list| list.len()).max().unwrap_or(0);
        let column = |i: usize| -> Vec<f64> {
            let values = recent.iter().filter_map(|list| list.get(i)?.as_f64());
            values.filter(|value| value.is_finite()).collect()
        };
        (0..width).map(|i| mean(column(i))).collect()
    }

    /// The newest value of every number (validation keys are in few rows).
    pub fn newest_values(&self) -> Map<String, Value> {
        let mut newest = Map::new();
        for (key, value) in self.rows.iter().flatten().filter(|(_, value)| value.is_number()) {
            newest.insert(key.clone(), value.clone());
        }
        newest
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
