//! Darkness of a picture's ground, by formula: nothing is learnt.

use crate::scorers::measure::{Measure, Scope, Table};
use crate::scorers::ring;
use crate::scorers::scorer::{Declaration, Scorer};
use anyhow::Result;
use image::RgbImage;

/// 1 minus the luma of the ground, which is the median colour of the outermost 3 pixels.
pub const BACKGROUND: Declaration = Declaration {
    name: "background",
    about: "Darkness of the ground around an object; needs no weights",
    measures: MEASURES,
    files: None,
    reads_vae: false,
    example: "",
    licence: "none: no weights",
    citation: "none: luma of ITU-R 601",
    open: |_| Ok(Box::new(Background)),
};

const MEASURES: &[Measure] = &[Measure::real("darkness", "", Some(0.0), Some(1.0), Scope::Picture)];

struct Background;

impl Scorer for Background {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    fn score(&self, pictures: &[RgbImage], _: i64, _: &[&str]) -> Result<Table> {
        Ok(Table::of_column(pictures.iter().map(|picture| 1.0 - ring::luma(ring::colour(picture)))))
    }
}
