//! The figures of an evaluation: what `eval.json` holds and what the report shows.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
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
    /// Whether 0 lies outside: of a difference, that it is more than chance.
    pub fn excludes_zero(&self) -> bool {
        self.lo > 0.0 || self.hi < 0.0
    }
}

/// One measure of every model, in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// In the order of the models.
    pub models: Vec<Interval>,
    /// Model i + 1 minus the first one, paired over names.
    pub differences: Vec<Interval>,
}

impl Measure {
    /// `{"before", "after", "difference"}` of the first model and model `index` (from 1).
    fn pair(&self, index: usize) -> Value {
        json!({
            "before": self.models.first(),
            "after": self.models.get(index),
            "difference": self.differences.get(index.wrapping_sub(1)),
        })
    }
}

/// What one judge says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Judged {
    /// Short name: `trained`, `nearest_pixels`, `nearest_latents`.
    pub judge: String,
    /// How the judge works, in a sentence.
    pub about: String,
    /// How often the judge is right on pictures whose answer is known, by kind of picture.
    pub accuracy: BTreeMap<String, f64>,
    /// Why these figures may flatter the run, where they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Share of pictures judged flat, over the held-out names.
    pub flat_share: Measure,
    /// Share of pictures in which the judge recognises the prompt, over all names.
    pub content_accuracy: Measure,
}

/// A model that was evaluated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluated {
    pub name: String,
    /// What it was loaded from.
    pub source: String,
    /// Hash of its weights and of the options of its pictures.
    pub key: String,
    /// Where its pictures lie, relative to the folder of the evaluation.
    pub pictures: PathBuf,
}

/// How the pictures were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Pictures a held-out name, from seed 0 on.
    pub seeds: u64,
    /// Pictures a name for content accuracy, from seed 0 on.
    pub content_seeds: u64,
    pub scheduler: String,
    pub steps: usize,
    pub guidance_scale: f64,
    /// Pixels.
    pub width: i64,
    pub height: i64,
    pub device: String,
    pub dtype: String,
}

/// The same prompt and seeds by every model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GalleryRow {
    pub prompt: String,
    pub held_out: bool,
    pub seeds: Vec<u64>,
    /// A list a model, a file a seed, relative to the folder of the evaluation.
    pub files: Vec<Vec<PathBuf>>,
}

/// An evaluation: models side by side under judges. The first model is the one before, the first judge leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluation {
    pub models: Vec<Evaluated>,
    pub judges: Vec<Judged>,
    pub settings: Settings,
    pub names: usize,
    pub held_out_names: usize,
    /// A sample of the pictures, to look at.
    pub gallery: Vec<GalleryRow>,
    /// The folder that the files lie in.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Evaluation {
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

    /// The figures for programs: `flat_share` and `content_accuracy` of the first judge, before, after and their
    /// paired difference; the other judges alike under `judges`; with more than two models, each of them against the
    /// first under `models`; what may flatter the run under `warnings`.
    pub fn figures(&self) -> Map<String, Value> {
        let mut figures = self.judges.first().map(|judged| pair(judged, 1)).unwrap_or_default();
        let others = self.judges.iter().skip(1).map(|judged| (judged.judge.clone(), Value::Object(pair(judged, 1))));
        figures.insert("judges".into(), Value::Object(others.collect()));
        let accuracy = self.judges.iter().map(|judged| (judged.judge.clone(), json!(judged.accuracy)));
        figures.insert("judge_accuracy".into(), Value::Object(accuracy.collect()));
        let warnings = self.judges.iter().filter_map(|judged| judged.warning.clone());
        figures.insert("warnings".into(), warnings.collect());
        let compared = |index: usize| {
            let judges = self.judges.iter().map(|judged| (judged.judge.clone(), Value::Object(pair(judged, index))));
            Value::Object(judges.collect())
        };
        if self.models.len() > 2 {
            let models = self.models.iter().enumerate().skip(1).map(|(i, model)| (model.name.clone(), compared(i)));
            figures.insert("models".into(), Value::Object(models.collect()));
        }
        let counts = json!({"names": self.names, "held_out_names": self.held_out_names, "settings": self.settings});
        figures.insert("evaluation".into(), counts);
        figures
    }
}

fn pair(judged: &Judged, index: usize) -> Map<String, Value> {
    let measures = [("flat_share", &judged.flat_share), ("content_accuracy", &judged.content_accuracy)];
    measures.into_iter().map(|(key, measure)| (key.to_string(), measure.pair(index))).collect()
}
