//! The pictures of a comparison by prompt, seed and side.

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
        let text = |record: &serde_json::Value, key: &str| record[key].as_str().unwrap_or_default().to_string();
        let first = outcomes.first().map(|outcome| outcome.records.as_slice()).unwrap_or_default();
        let row = |record: &serde_json::Value| {
            let file = text(record, "file");
            let files = names.iter().map(|name| format!("{name}/{file}")).collect();
            Row { prompt: text(record, "prompt"), seed: record["seed"].as_u64().unwrap_or_default(), files }
        };
        let rows = first.iter().map(row).collect();
        Self { names, rows, width, height }
    }
}
