//! pairs.jsonl, lists.jsonl and annotate.jsonl, as `diffpref train` reads the first two.

use super::candidates::Candidates;
use super::strength::Measured;
use crate::machine::files::{relative_to, write_atomically};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A pair of candidates.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Place of the prompt among all.
    pub prompt: usize,
    pub winner: usize,
    pub loser: usize,
    /// Combined numbers.
    pub combined: [f64; 2],
    pub tie: bool,
    pub strength: Option<Measured>,
    /// Whether the strength is weak, so that a soft label is written.
    pub ambiguous: bool,
    pub weight: Option<f64>,
}

impl Pair {
    pub fn margin(&self) -> f64 {
        self.combined[0] - self.combined[1]
    }
}

/// A ranked list of a prompt's candidates.
#[derive(Debug, Clone)]
pub struct List {
    pub prompt: usize,
    /// 1 is the best; equal numbers share a rank.
    pub ranks: Vec<usize>,
}

#[derive(Serialize)]
struct PairRow<'a> {
    id: String,
    prompt: &'a str,
    winner: PathBuf,
    loser: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'static str>,
    scores: BTreeMap<&'a str, [f64; 2]>,
    margin: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strength: Option<StrengthRow>,
}

#[derive(Serialize)]
struct StrengthRow {
    mean: f64,
    std: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    soft_label: Option<f64>,
}

#[derive(Serialize)]
struct ListRow<'a> {
    id: String,
    prompt: &'a str,
    images: Vec<PathBuf>,
    ranks: Vec<usize>,
}

#[derive(Serialize)]
struct AnnotateRow<'a> {
    id: String,
    prompt: &'a str,
    first: PathBuf,
    second: PathBuf,
    margin: f64,
}

/// Rows of a file below one folder.
pub struct Writer<'a> {
    pub out: &'a Path,
    pub prompts: &'a [Candidates],
    /// SCORER.MEASURE of every measure.
    pub names: &'a [String],
    /// Mean c over the prompts, where models ranked.
    pub mean_confidence: Option<f64>,
}

impl Writer<'_> {
    /// Rows of pairs.jsonl. Every column of `scores` is turned so that higher is better. `confidence` and
    /// `mean_confidence` are the chances that the winner and that the loser is the better picture.
    ///
    /// # Errors
    /// A picture that is gone.
    pub fn pairs(&self, pairs: &[Pair]) -> Result<Vec<String>> {
        let row = |pair: &Pair| {
            let of = &self.prompts[pair.prompt];
            let column = |(name, numbers)| -> (&str, [f64; 2]) {
                let (name, numbers): (&String, &Vec<f64>) = (name, numbers);
                (name, [numbers[pair.winner], numbers[pair.loser]])
            };
            let mut scores: BTreeMap<&str, [f64; 2]> = self.names.iter().zip(&of.numbers).map(column).collect();
            scores.insert("combined", pair.combined);
            let chances = [("confidence", of.confidence), ("mean_confidence", self.mean_confidence)];
            scores.extend(chances.into_iter().filter_map(|(name, c)| Some((name, c.map(|c| [c, 1.0 - c])?))));
            let strength = |measured: Measured| StrengthRow {
                mean: measured.mean,
                std: measured.std,
                soft_label: pair.ambiguous.then(|| measured.soft_label()),
            };
            Ok(PairRow {
                id: format!("{}:{}-{}", pair.prompt, pair.winner, pair.loser),
                prompt: &of.prompt,
                winner: self.relative(of, pair.winner)?,
                loser: self.relative(of, pair.loser)?,
                label: pair.tie.then_some("tie"),
                scores,
                margin: pair.margin(),
                weight: pair.weight,
                strength: pair.strength.map(strength),
            })
        };
        lines(pairs.iter().map(row))
    }

    /// Rows of lists.jsonl.
    ///
    /// # Errors
    /// A picture that is gone.
    pub fn lists(&self, lists: &[List]) -> Result<Vec<String>> {
        let row = |list: &List| {
            let of = &self.prompts[list.prompt];
            let images = (0..of.pictures.len()).map(|i| self.relative(of, i)).collect::<Result<_>>()?;
            Ok(ListRow { id: list.prompt.to_string(), prompt: &of.prompt, images, ranks: list.ranks.clone() })
        };
        lines(lists.iter().map(row))
    }

    /// Rows of annotate.jsonl: pictures in the order of the input, so that their places tell nothing.
    ///
    /// # Errors
    /// A picture that is gone.
    pub fn annotate(&self, pairs: &[Pair]) -> Result<Vec<String>> {
        let row = |pair: &Pair| {
            let of = &self.prompts[pair.prompt];
            let (first, second) = (pair.winner.min(pair.loser), pair.winner.max(pair.loser));
            Ok(AnnotateRow {
                id: format!("{}:{first}-{second}", pair.prompt),
                prompt: &of.prompt,
                first: self.relative(of, first)?,
                second: self.relative(of, second)?,
                margin: pair.margin(),
            })
        };
        lines(pairs.iter().map(row))
    }

    fn relative(&self, of: &Candidates, picture: usize) -> Result<PathBuf> {
        relative_to(self.out, &of.pictures[picture])
    }

    /// Writes rows as a file.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, name: &str, rows: &[String]) -> Result<()> {
        let text: String = rows.iter().flat_map(|row| [row.as_str(), "\n"]).collect();
        write_atomically(&self.out.join(name), text.as_bytes())
    }
}

fn lines<T: Serialize>(rows: impl Iterator<Item = Result<T>>) -> Result<Vec<String>> {
    rows.map(|row| Ok(serde_json::to_string(&row?)?)).collect()
}
