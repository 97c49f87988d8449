//! The numbers of pictures: rated once, stored beside the pictures, and listed in `scores.jsonl`.

use super::album::Album;
use super::groups::Cell;
use super::prompts::Prompt;
use crate::machine::files::write_atomically;
use crate::machine::hashes::HashMemory;
use crate::progress::Stop;
use crate::scorers::{Named, ScorerSpec, Table};
use anyhow::{Context, Result};
use pipelines::families::ModelFolder;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Pictures read and rated at once.
const BATCH: usize = 256;

/// An opened scorer, and the hash of everything that affects its numbers.
pub struct Rater {
    pub spec: ScorerSpec,
    pub named: Named,
    hash: String,
}

impl Rater {
    /// `model`: source of the VAE, for a scorer that needs one.
    ///
    /// # Errors
    /// Unreadable files of the scorer.
    pub fn new(spec: ScorerSpec, named: Named, model: &ModelFolder, memory: &mut HashMemory) -> Result<Self> {
        let hash = spec.fingerprint(named.scorer.as_ref(), &model.vae_files(), memory)?;
        Ok(Self { spec, named, hash })
    }

    /// The numbers of an album's pictures, one row per cell. Existing ones are read from the album.
    ///
    /// # Errors
    /// A picture that cannot be read or rated; [`crate::progress::Stopped`] after a signal.
    pub fn rate(&self, album: &Album, prompts: &[Prompt], cells: &[Cell], stop: &Stop) -> Result<Table> {
        let file = album.dir.join(format!("scored-{}-{}.json", self.spec.name, &self.hash[..12]));
        // A damaged file costs only time: its pictures are rated again.
        let mut known: BTreeMap<String, Vec<f64>> =
            std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let missing: Vec<Cell> = cells.iter().copied().filter(|cell| !known.contains_key(&cell.file())).collect();
        for batch in missing.chunks(BATCH) {
            stop.check()?;
            let pictures = batch.iter().map(|cell| album.picture(*cell)).collect::<Result<Vec<_>>>()?;
            let texts: Vec<&str> = batch.iter().map(|cell| prompts[cell.prompt].text.as_str()).collect();
            known.extend(batch.iter().map(Cell::file).zip(self.named.rate(&pictures, 0, &texts)?.0));
        }
        if !missing.is_empty() {
            write_atomically(&file, &serde_json::to_vec(&known)?)?;
        }
        let row = |cell: &Cell| known.get(&cell.file()).cloned().context("a picture was not rated");
        cells.iter().map(row).collect::<Result<_>>().map(Table)
    }
}

/// The numbers of one model's pictures by all scorers.
pub struct ModelScores<'a> {
    pub model: &'a str,
    /// Folder of the pictures, relative to that of the evaluation.
    pub pictures: &'a Path,
    /// One per scorer.
    pub tables: Vec<&'a Table>,
}

/// Writes `scores.jsonl`: one row per picture, with the numbers of every scorer by measure.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, models: &[ModelScores], raters: &[Rater], prompts: &[Prompt], cells: &[Cell]) -> Result<()> {
    let mut lines = String::new();
    for scores in models {
        for (index, cell) in cells.iter().enumerate() {
            let prompt = &prompts[cell.prompt];
            let of_scorer = |(rater, table): (&Rater, &&Table)| {
                let names = rater.named.scorer.measures().iter().map(|measure| measure.name.to_string());
                let numbers: Map<String, Value> =
                    names.zip(table.0[index].iter().map(|number| json!(number))).collect();
                (rater.named.name.clone(), Value::Object(numbers))
            };
            let numbers: Map<String, Value> = raters.iter().zip(&scores.tables).map(of_scorer).collect();
            let row = json!({
                "model": scores.model, "prompt": prompt.text, "held_out": prompt.held_out, "seed": cell.noise_seed(),
                "picture": scores.pictures.join(cell.file()), "scores": numbers,
            });
            lines.push_str(&format!("{row}\n"));
        }
    }
    write_atomically(path, lines.as_bytes())
}
