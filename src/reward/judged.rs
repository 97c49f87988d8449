//! Scorers by a trained judge: how flat a picture is drawn, and whether it shows what the prompt names.

use super::{Folder, Scorer, ScorerKind};
use crate::keys::nearest;
use crate::scorers::{Judge, TrainedJudge};
use anyhow::{Result, bail};
use image::RgbImage;

/// `content` lies in [-LARGEST, LARGEST]: a judge that is surer than that (p within 5e-5 of 0 or 1) is sure of nothing
/// more, and in a mixture its extremes would outweigh all others.
pub const LARGEST: f64 = 10.0;

/// Log-odds of the flat style.
pub const STYLE: ScorerKind =
    ScorerKind { name: "style", folder: JUDGE, open: |path, _| Ok(Box::new(Style(TrainedJudge::open(path)?))) };

/// Log-odds of the content that the prompt names.
pub const CONTENT: ScorerKind =
    ScorerKind { name: "content", folder: JUDGE, open: |path, _| Ok(Box::new(Content(TrainedJudge::open(path)?))) };

const JUDGE: Option<Folder> = Some(Folder { weights: "model.safetensors", settings: &["config.json"] });

/// log p(flat) - log(1 - p(flat)), not clamped: computed from logits, it is finite. The prompt is not read.
struct Style(TrainedJudge);

impl Scorer for Style {
    fn score(&self, pictures: &[RgbImage], _: i64, _: &[&str]) -> Result<Vec<f64>> {
        self.0.style_log_odds(pictures)
    }
}

/// log p - log(1 - p) of the prompt, one of the judge's names, clamped to [-[`LARGEST`], [`LARGEST`]].
struct Content(TrainedJudge);

impl Content {
    /// The prompt's place among the judge's names.
    fn place(&self, prompt: &str) -> Result<usize> {
        let names = self.0.names();
        if let Some(place) = names.iter().position(|name| name == prompt) {
            return Ok(place);
        }
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let hint = nearest(prompt, &known).map_or(".".into(), |name| format!(", did you mean \"{name}\"?"));
        bail!(
            "the prompt \"{prompt}\" is none of the {} names that the judge knows{hint} Take prompts from its config.json \
             (`names`), or another scorer",
            names.len()
        )
    }
}

impl Scorer for Content {
    fn score(&self, pictures: &[RgbImage], _: i64, prompts: &[&str]) -> Result<Vec<f64>> {
        let places: Vec<usize> = prompts.iter().map(|prompt| self.place(prompt)).collect::<Result<_>>()?;
        let odds = self.0.content_log_odds(pictures, &places)?;
        Ok(odds.into_iter().map(|odds| odds.clamp(-LARGEST, LARGEST)).collect())
    }

    fn check(&self, prompt: &str) -> Result<()> {
        self.place(prompt).map(drop)
    }
}
