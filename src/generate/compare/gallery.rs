//! The pictures of a comparison by prompt, seed and side.

use crate::generate::record::Record;
use crate::generate::run::Outcome;

/// The pictures of every side, which differ only in their sides' models and options.
pub struct Gallery {
    pub names: Vec<String>,
    pub rows: Vec<Row>,
    /// Size of every picture, in pixels.
    pub width: u32,
    pub height: u32,
}

/// One prompt and seed.
pub struct Row {
    pub prompt: String,
    pub seed: u64,
    /// One file per side, below the comparison's folder.
    pub files: Vec<String>,
}

impl Gallery {
    /// Pictures of `width` x `height` pixels by the records of the sides' outcomes, which are in the order of `names`.
    pub fn of(names: Vec<String>, outcomes: &[Outcome], (width, height): (u32, u32)) -> Self {
        let first = outcomes.first().map(|outcome| outcome.records.as_slice()).unwrap_or_default();
        let row = |record: &Record| {
            let files = names.iter().map(|name| format!("{name}/{}", record.file)).collect();
            Row { prompt: record.prompt.clone(), seed: record.seed, files }
        };
        let rows = first.iter().map(row).collect();
        Self { names, rows, width, height }
    }
}
