//! Flatness of a picture's style.

use crate::scorers::judge::{self, Judge, LOG_ODDS, log_odds};
use crate::scorers::measure::{Measure, Scope, Table};
use crate::scorers::scorer::{Declaration, Scorer};
use anyhow::Result;
use image::RgbImage;
use std::collections::BTreeMap;

/// Log-odds of the flat style, log p(flat) - log(1 - p(flat)), not clamped: computed from logits, they are finite.
pub const STYLE: Declaration = Declaration {
    name: "style",
    about: "Whether a picture is drawn flat, by the style head of a judge",
    measures: MEASURES,
    files: Some(judge::FILES),
    reads_vae: false,
    example: judge::EXAMPLE,
    licence: judge::LICENCE,
    citation: judge::CITATION,
    open: |opening| Ok(Box::new(Style(Judge::open(opening.path)?))),
};

const MEASURES: &[Measure] =
    &[Measure::real("log_odds", LOG_ODDS, None, None, Scope::Picture), Measure::decision("flat_share", Scope::Picture)];

struct Style(Judge);

impl Scorer for Style {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    fn score(&self, pictures: &[RgbImage], _: i64, _: &[&str]) -> Result<Table> {
        self.0.each(pictures, |_, style, _| {
            let odds = log_odds(style, self.0.flat());
            vec![odds, f64::from(odds > 0.0)]
        })
    }

    fn accuracy(&self) -> Result<BTreeMap<String, f64>> {
        Ok(self.0.accuracy("style"))
    }
}
