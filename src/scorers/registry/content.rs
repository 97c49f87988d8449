//! Whether a picture shows the name in its prompt.

use crate::keys::nearest;
use crate::scorers::judge::{self, Judge, LOG_ODDS, log_odds};
use crate::scorers::measure::{Measure, Scope, Table};
use crate::scorers::scorer::{Declaration, Scorer};
use anyhow::{Result, bail};
use image::RgbImage;
use std::collections::BTreeMap;

/// Bound of the log-odds, which are in [-LARGEST, LARGEST]. Beyond it (p within 5e-5 of 0 or 1) a judge's certainty
/// is meaningless, and in a mixture such numbers would outweigh all others.
pub const LARGEST: f64 = 10.0;

/// Log-odds of the prompt's name, log p - log(1 - p), clamped to [-[`LARGEST`], [`LARGEST`]].
pub const CONTENT: Declaration = Declaration {
    name: "content",
    about: "Whether a picture shows the name that is its prompt, by the content head of a judge",
    measures: MEASURES,
    files: Some(judge::FILES),
    reads_vae: false,
    example: judge::EXAMPLE,
    licence: judge::LICENCE,
    citation: judge::CITATION,
    open: |opening| Ok(Box::new(Content(Judge::open(opening.path)?))),
};

const MEASURES: &[Measure] = &[
    Measure::real("log_odds", LOG_ODDS, Some(-LARGEST), Some(LARGEST), Scope::Prompt),
    Measure::decision("content_accuracy", Scope::Prompt),
];

struct Content(Judge);

impl Content {
    /// Index of the prompt in the judge's names.
    fn index(&self, prompt: &str) -> Result<i64> {
        let names = self.0.names();
        if let Some(index) = names.iter().position(|name| name == prompt) {
            return Ok(index as i64);
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
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    fn check(&self, prompt: &str) -> Result<()> {
        self.index(prompt).map(drop)
    }

    fn score(&self, pictures: &[RgbImage], _: i64, prompts: &[&str]) -> Result<Table> {
        let indices: Vec<i64> = prompts.iter().map(|prompt| self.index(prompt)).collect::<Result<_>>()?;
        self.0.each(pictures, |picture, _, content| {
            let odds = log_odds(content, indices[picture]).clamp(-LARGEST, LARGEST);
            let recognised = content.argmax(0, false).int64_value(&[]) == indices[picture];
            vec![odds, f64::from(recognised)]
        })
    }

    fn accuracy(&self) -> Result<BTreeMap<String, f64>> {
        Ok(self.0.accuracy("content"))
    }
}
