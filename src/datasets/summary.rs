//! Figures of a data set, from `diffpref data inspect`.

use crate::data::findings::Findings;
use crate::data::items::{Format, ItemKind};
use crate::metrics::evaluation::Interval;
use serde::Serialize;
use std::path::PathBuf;

/// Users, sizes and generators that a text names; the JSON has all.
const NAMED: usize = 8;

/// A data set.
#[derive(Debug, Serialize)]
pub struct Inspection {
    pub path: PathBuf,
    pub format: Format,
    /// Kind of the rows.
    pub kind: ItemKind,
    pub rows: usize,
    /// Rows whose images nobody compared.
    pub unlabelled: usize,
    pub ties: usize,
    /// Labelled images that are desirable.
    pub desirable: usize,
    /// Distinct prompts, and the rows of the most frequent one.
    pub prompts: usize,
    pub most_per_prompt: usize,
    /// Distinct places of images.
    pub images: usize,
    /// User and rows, the most frequent first.
    pub users: Vec<(String, usize)>,
    pub generators: Vec<Generator>,
    pub scores: Vec<Scores>,
    /// By the places of images.
    pub findings: Findings,
    /// Findings of reading the images; `None` if none was read.
    pub contents: Option<Contents>,
    /// A model on the pairs.
    pub model: Option<Ranking>,
}

/// Rows of the images of one model.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    pub name: String,
    pub images: usize,
    pub wins: usize,
    pub losses: usize,
    pub ties: usize,
}

impl Generator {
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), images: 0, wins: 0, losses: 0, ties: 0 }
    }
}

/// Scores of one scorer over all rows.
#[derive(Debug, Clone, Serialize)]
pub struct Scores {
    pub scorer: String,
    pub images: usize,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// Equal bins from min to max, in per cent of the fullest.
    pub histogram: Vec<f64>,
}

/// Findings of reading images.
#[derive(Debug, Clone, Serialize)]
pub struct Contents {
    /// Images that were read, of all distinct ones.
    pub read: usize,
    /// Image and reason.
    pub unreadable: Vec<(String, String)>,
    /// Images whose bytes are those of an earlier one.
    pub duplicates: usize,
    /// Pairs by the bytes of their images; `same_image` by their pixels.
    pub findings: Findings,
    /// Width, height and number of images, the most frequent first.
    pub sizes: Vec<(u32, u32, usize)>,
}

/// How a model ranks pairs by its denoising errors.
#[derive(Debug, Clone, Serialize)]
pub struct Ranking {
    pub model: String,
    pub pairs: usize,
    /// Share of pairs whose winner has the lower error.
    pub ranking_accuracy: Interval,
}

impl Inspection {
    /// Lines of names and values.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            ("data".to_string(), format!("{} ({})", self.path.display(), self.of_what())),
            ("rows".into(), self.counts()),
            ("prompts".into(), format!("{}, at most {} rows of one", self.prompts, self.most_per_prompt)),
            ("images".into(), self.of_images()),
        ];
        if !self.users.is_empty() {
            lines.push((
                "users".into(),
                most(self.users.len(), self.users.iter().map(|(name, n)| format!("{name} {n}"))),
            ));
        }
        if !self.generators.is_empty() {
            let one = |g: &Generator| format!("{} ({} won, {} lost, {} tied)", g.name, g.wins, g.losses, g.ties);
            lines.push(("generators".into(), most(self.generators.len(), self.generators.iter().map(one))));
        }
        for scores in &self.scores {
            let text =
                format!("{} images, {:.4} to {:.4}, mean {:.4}", scores.images, scores.min, scores.max, scores.mean);
            lines.push((format!("score {}", scores.scorer), text));
        }
        let findings = self.contents.as_ref().map_or(&self.findings, |contents| &contents.findings);
        lines.extend(findings.notes().into_iter().map(|note| ("note".into(), note)));
        if let Some(ranking) = &self.model {
            let text =
                format!("{} of {} pairs, by {}", ranking.ranking_accuracy.per_cent(), ranking.pairs, ranking.model);
            lines.push(("ranked right".into(), text));
        }
        lines
    }

    /// Format, and kind of rows where the format does not say it.
    fn of_what(&self) -> String {
        match self.format.kind() {
            Some(kind) => kind.noun().to_string(),
            None => format!("{}, {}", self.format, self.kind.noun()),
        }
    }

    fn counts(&self) -> String {
        let mut parts = vec![self.rows.to_string()];
        let mut add = |n: usize, what: &str| {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        };
        add(self.ties, "ties");
        add(self.unlabelled, "without a label");
        if self.kind == ItemKind::Labels {
            add(self.desirable, "desirable");
        }
        parts.join(", ")
    }

    fn of_images(&self) -> String {
        let Some(contents) = &self.contents else { return format!("{}, none was read", self.images) };
        let sizes = contents.sizes.iter().map(|(w, h, n)| format!("{w}x{h} {n}"));
        let mut text = format!("{}, {} read; sizes: {}", self.images, contents.read, most(contents.sizes.len(), sizes));
        if contents.duplicates > 0 {
            text += &format!("; {} have the bytes of an earlier one", contents.duplicates);
        }
        if !contents.unreadable.is_empty() {
            let named = contents.unreadable.iter().map(|(image, reason)| format!("{image}: {reason}"));
            text += &format!("; unreadable: {}", most(contents.unreadable.len(), named));
        }
        text
    }

    /// The lines as text.
    pub fn text(&self) -> String {
        self.lines().iter().map(|(name, value)| format!("{name:14} {value}\n")).collect()
    }
}

/// The first few of `count` texts.
fn most(count: usize, texts: impl Iterator<Item = String>) -> String {
    let named: Vec<String> = texts.take(NAMED).collect();
    let more = if count > NAMED { format!(", and {} more", count - NAMED) } else { String::new() };
    format!("{}{more}", named.join(", "))
}
