//! The file `eval.json`: models side by side, by any scorers.

use super::per_cent;
use crate::scorers::Measure;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A mean with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub mean: f64,
    pub lo: f64,
    pub hi: f64,
}

impl Interval {
    /// Whether the interval is wholly on one side of `value`.
    pub fn excludes(&self, value: f64) -> bool {
        self.lo > value || self.hi < value
    }

    /// A share as text: "62.5 % [55.0, 70.0]".
    pub fn per_cent(&self) -> String {
        format!("{} [{:.1}, {:.1}]", per_cent(self.mean), self.lo * 100.0, self.hi * 100.0)
    }

    /// A difference of shares as text: "+25.0 points [+18.0, +31.5]".
    pub fn points(&self) -> String {
        format!("{:+.1} points [{:+.1}, {:+.1}]", self.mean * 100.0, self.lo * 100.0, self.hi * 100.0)
    }
}

/// One measure of every model over a group of prompts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// In the order of the models.
    pub models: Vec<Interval>,
    /// Model i + 1 minus the first one, paired over prompts.
    pub differences: Vec<Interval>,
    /// Share of pictures of model i + 1 better than the first model's of the same prompt and seed; equal ones count
    /// half. Empty for decisions and for measures without a better direction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub win_rates: Vec<Interval>,
    /// The mean number of a prompt's pictures, median over prompts, in the order of the models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub medians: Vec<f64>,
    /// Model i + 1 against the first one, for measures with a better direction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sign_tests: Vec<SignTest>,
    /// With three models or more, for measures with a better direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaders: Option<Leaders>,
    /// For real measures with a better direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_third: Option<BestThird>,
    /// For real measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
}

/// A sign test over prompts. A prompt's number is the mean over its pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SignTest {
    /// Prompts on which the model is better than the first one, worse, and equal.
    pub better: u64,
    pub worse: u64,
    pub ties: u64,
    /// Two-sided p, without the ties.
    pub p: f64,
    /// `p` after Holm's correction over every test of the group of prompts.
    pub p_holm: f64,
}

/// The best of several models, as indices of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaders {
    pub by_mean: usize,
    /// By pairwise majorities over prompts, won minus lost.
    pub by_copeland: usize,
}

impl SignTest {
    /// "better on 20 prompts, worse on 5, p 0.004": p after the correction.
    pub fn in_words(&self) -> String {
        let p = if self.p_holm < 0.001 { "p < 0.001".into() } else { format!("p {:.3}", self.p_holm) };
        format!("better on {} prompts, worse on {}, {p}", self.better, self.worse)
    }
}

impl Leaders {
    /// "leads: a by mean and by majorities of prompts", or that the two differ.
    pub fn in_words(&self, models: &[Evaluated]) -> String {
        let name = |index: usize| models.get(index).map_or("", |model| model.name.as_str());
        let (mean, copeland) = (name(self.by_mean), name(self.by_copeland));
        match self.by_mean == self.by_copeland {
            true => format!("leads: {mean}, by mean and by majorities of prompts"),
            false => format!("leads by mean: {mean}; by majorities of prompts (Copeland): {copeland}"),
        }
    }
}

/// Pictures as good as the best third of the first model's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestThird {
    /// The number that the best third of the first model's pictures reaches.
    pub threshold: f64,
    /// Share of each model's pictures that reach it.
    pub models: Vec<Interval>,
    /// Share of model i + 1 minus the first one's, paired over prompts.
    pub differences: Vec<Interval>,
}

/// Numbers of all pictures in equal bins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Lower end of the first bin and upper end of the last one.
    pub from: f64,
    pub to: f64,
    /// `[models][bins]`: shares of the model's pictures.
    pub models: Vec<Vec<f64>>,
}

/// A measure, group by group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    #[serde(flatten)]
    pub measure: Measure,
    /// By name of the group.
    pub groups: BTreeMap<String, Compared>,
}

/// All measures of one scorer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scored {
    /// The second scorer of a name has a number: style_2.
    pub name: String,
    /// Description in one sentence.
    pub about: String,
    /// Its files; empty for a scorer without files.
    pub path: PathBuf,
    /// Accuracy on pictures with a known answer, by kind of picture.
    pub accuracy: BTreeMap<String, f64>,
    pub measures: Vec<Measured>,
}

/// The group of every prompt.
pub const ALL: &str = "all";

/// The group of held-out prompts.
pub const HELD_OUT: &str = "held_out";

/// Prompts of a mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// `held_out`, `all`
    pub name: String,
    /// Number of prompts.
    pub prompts: usize,
    /// Number of pictures per prompt that count, from seed 0 on.
    pub seeds: u64,
}

impl Group {
    /// Whether it contains every prompt.
    pub fn is_all(&self) -> bool {
        self.name == ALL
    }

    /// Name in text: "held-out", "all".
    pub fn title(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// A model that was evaluated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluated {
    pub name: String,
    /// Its files, as text.
    pub source: String,
    /// Hash of its weights and of the options of its pictures.
    pub key: String,
    /// Folder of its pictures, relative to that of the evaluation.
    pub pictures: PathBuf,
    /// Root mean square distance between two pictures of a prompt, at 32 x 32 pixels of 0 to 1, mean over pairs and
    /// prompts; `None` with one picture per prompt.
    #[serde(default)]
    pub diversity: Option<f64>,
}

/// How the pictures were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureSettings {
    pub scheduler: String,
    pub steps: usize,
    pub guidance_scale: f64,
    /// Pixels.
    pub width: i64,
    pub height: i64,
    pub device: String,
    pub dtype: String,
}

/// Pictures of one prompt by every model, from the same seeds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GalleryRow {
    pub prompt: String,
    pub held_out: bool,
    pub seeds: Vec<u64>,
    /// `[models][seeds]`, relative to the folder of the evaluation.
    pub files: Vec<Vec<PathBuf>>,
    /// How far the prompt's pictures are apart: the largest difference of a model from the first one in standard
    /// deviations, mean over measures with a better direction; `None` in `gallery`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<f64>,
}

/// An evaluation. The first model is the baseline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluation {
    pub models: Vec<Evaluated>,
    pub groups: Vec<Group>,
    pub scorers: Vec<Scored>,
    /// Scorers that labelled the data or rated the samples of a model.
    pub warnings: Vec<String>,
    pub settings: PictureSettings,
    /// Prompts on which the models differ most, the most first.
    #[serde(default)]
    pub most_different: Vec<GalleryRow>,
    /// A sample of the pictures.
    pub gallery: Vec<GalleryRow>,
    /// Folder of the evaluation.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Evaluation {
    /// As [`read`](Self::read); `None` if the folder has no `eval.json`.
    ///
    /// # Errors
    /// A file that is not an evaluation of this version.
    pub fn read_if_any(folder: &Path) -> Result<Option<Self>> {
        folder.join("eval.json").is_file().then(|| Self::read(folder)).transpose()
    }

    /// Reads the `eval.json` of an evaluation's folder.
    ///
    /// # Errors
    /// When the file is missing or not an evaluation.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("eval.json");
        let bytes = std::fs::read(&path)
            .with_context(|| format!("cannot read {}; run `diffpref eval` first", path.display()))?;
        let mut evaluation: Self = serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is not an evaluation of this version; run `diffpref eval` again", path.display())
        })?;
        evaluation.folder = folder.to_path_buf();
        Ok(evaluation)
    }

    /// Figures of the last model over the first group of prompts, by name: `scorer.measure` is the mean, with `.gain` behind it
    /// the difference to the first model, with `.win_rate` and `.best_third` those shares.
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let Some(group) = self.groups.first() else { return BTreeMap::new() };
        let mut figures = BTreeMap::new();
        for scored in &self.scorers {
            for measured in &scored.measures {
                let Some(compared) = measured.groups.get(&group.name) else { continue };
                let name = format!("{}.{}", scored.name, measured.measure.name);
                let third = compared.best_third.as_ref().and_then(|third| third.models.last());
                let all = [
                    ("", compared.models.last()),
                    (".gain", compared.differences.last()),
                    (".win_rate", compared.win_rates.last()),
                    (".best_third", third),
                ];
                let known =
                    all.into_iter().filter_map(|(end, interval)| Some((format!("{name}{end}"), interval?.mean)));
                figures.extend(known);
            }
        }
        figures
    }

    /// The figures of a measure by names of scorer, measure and group.
    pub fn find(&self, scorer: &str, measure: &str, group: &str) -> Option<&Compared> {
        let scored = self.scorers.iter().find(|scored| scored.name == scorer)?;
        scored.measures.iter().find(|measured| measured.measure.name == measure)?.groups.get(group)
    }
}
