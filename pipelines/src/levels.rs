//! Noise levels: batches of them, and the range of a noise process.

use crate::Result;
use diffpref_native::Generator;
use tch::{Device, Tensor};

/// Noise levels of a batch, `[B]` float64, in the unit of their process ([`LevelRange`]). Only processes and networks
/// read the values.
#[derive(Debug)]
pub struct Levels(Tensor);

impl Levels {
    pub fn new(levels: &[f64]) -> Self {
        Self(Tensor::from_slice(levels))
    }

    /// One level for `rows` samples.
    pub fn same(level: f64, rows: i64, device: Device) -> Self {
        Self(Tensor::full([rows], level, (tch::Kind::Double, device)))
    }

    /// `[B]` float64
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    pub fn rows(&self) -> i64 {
        self.0.size()[0]
    }

    pub fn shallow_clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }

    pub fn to(&self, device: Device) -> Self {
        Self(self.0.to_device(device))
    }

    /// The rows of an index, `[n]` int64 on the device of the levels.
    pub fn select(&self, index: &Tensor) -> Self {
        Self(self.0.index_select(0, index))
    }

    /// All rows repeated `times` times.
    pub fn repeat(&self, times: i64) -> Self {
        Self(self.0.repeat([times]))
    }

    pub fn values(&self) -> Vec<f64> {
        self.0.to_device(Device::Cpu).iter::<f64>().map(Iterator::collect).unwrap_or_default()
    }
}

/// The noise levels of a process, from the picture to pure noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelRange {
    /// Whole timesteps 0 .. T - 1 of a discrete schedule; holds T.
    Steps(i64),
    /// Real numbers in [0, 1], for flow matching.
    Unit,
}

impl LevelRange {
    /// The level of pure noise.
    pub fn last(self) -> f64 {
        match self {
            Self::Steps(total) => (total - 1) as f64,
            Self::Unit => 1.0,
        }
    }

    /// The lowest level of an inversion: level 0 of a flow has no noise, and no step leads to it.
    pub fn lowest_inverted(self) -> f64 {
        match self {
            Self::Steps(_) => 1.0,
            Self::Unit => 1e-3,
        }
    }

    /// All levels, or a thousand of infinitely many.
    pub fn all(self) -> Vec<f64> {
        match self {
            Self::Steps(total) => (0..total).map(|t| t as f64).collect(),
            Self::Unit => (1..=1000).map(|i| f64::from(i) / 1000.0).collect(),
        }
    }

    /// A level drawn uniformly from the whole range.
    pub fn draw(self, generator: &mut Generator) -> Result<f64> {
        Ok(match self {
            Self::Steps(total) => generator.randint(total)? as f64,
            Self::Unit => generator.rand_f64(),
        })
    }

    /// A level drawn uniformly above `level`.
    pub fn draw_above(self, level: f64, generator: &mut Generator) -> Result<f64> {
        Ok(match self {
            Self::Steps(total) => level + 1.0 + generator.randint(total - 1 - level as i64)? as f64,
            Self::Unit => level + (1.0 - level) * generator.rand_f64(),
        })
    }

    /// The level at `u` in [0, 1) of the uniform distribution over `low ..= high`.
    pub fn between(self, low: f64, high: f64, u: f64) -> f64 {
        match self {
            Self::Steps(_) => low + (u * (high - low + 1.0)).floor(),
            Self::Unit => low + u * (high - low),
        }
    }

    /// The level `depth` parts below `high`, of `parts` equal parts of `low ..= high`.
    pub fn below(self, low: f64, high: f64, depth: f64, parts: i64) -> f64 {
        match self {
            Self::Steps(_) => {
                let width = high - low + 1.0;
                // Rounding may carry the end of the last bin over its border.
                high - (depth * width / parts as f64).floor().min(width - 1.0)
            }
            Self::Unit => (high - depth * (high - low) / parts as f64).max(low),
        }
    }

    /// The middle of part `j` (from 0) of `parts` equal parts of the range.
    pub fn middle(self, j: u64, parts: u64) -> f64 {
        match self {
            Self::Steps(total) => ((j as f64 + 0.5) * total as f64 / parts as f64).floor(),
            Self::Unit => (j as f64 + 0.5) / parts as f64,
        }
    }

    /// Index of the part of the range that holds `level`, of `parts` equal ones, from 0.
    pub fn part(self, level: f64, parts: i64) -> i64 {
        match self {
            Self::Steps(total) => level as i64 * parts / total,
            Self::Unit => ((level * parts as f64) as i64).min(parts - 1),
        }
    }

    /// The upper end of part `i` (from 0) of `parts`: 39, 79, .., 999 of 25 parts of a thousand timesteps.
    pub fn rung(self, i: i64, parts: i64) -> f64 {
        match self {
            Self::Steps(total) => (total / parts * (i + 1) - 1) as f64,
            Self::Unit => (i + 1) as f64 / parts as f64,
        }
    }

    /// The level one of `parts` below, at least 0.
    pub fn rung_below(self, level: f64, parts: i64) -> f64 {
        match self {
            Self::Steps(total) => (level - (total / parts) as f64).max(0.0),
            // The remainder of rounding is no level of its own.
            Self::Unit => Some(level - 1.0 / parts as f64).filter(|below| *below > 1e-9).unwrap_or(0.0),
        }
    }

    /// Levels from the picture to `level`, evenly spaced: the share of `steps` that corresponds to `level`, `steps`
    /// for the whole range.
    pub fn path(self, level: f64, steps: i64) -> Vec<f64> {
        match self {
            Self::Steps(total) => {
                let t = level as i64;
                let m = (t * steps + total - 1) / total;
                (0..=m).map(|i| ((2 * i * t + m) / (2 * m)) as f64).collect()
            }
            Self::Unit => {
                let m = (level * steps as f64).ceil().max(1.0) as i64;
                (0..=m).map(|i| i as f64 * level / m as f64).collect()
            }
        }
    }

    /// The grid of the published inversions: sources 1 - spacing, 1, 1 + spacing, .. below `level`, and the
    /// destination of the last one. A flow's grid begins at 0 instead.
    pub fn published_path(self, level: f64, steps: i64) -> Vec<f64> {
        let (first, spacing) = match self {
            Self::Steps(total) => ((1 - total / steps) as f64, (total / steps) as f64),
            Self::Unit => (0.0, 1.0 / steps as f64),
        };
        let sources = (0..steps).map(|k| first + k as f64 * spacing).take_while(|source| *source < level);
        let mut levels: Vec<f64> = sources.collect();
        levels.push(levels.last().map_or(first, |source| source + spacing));
        levels
    }
}
