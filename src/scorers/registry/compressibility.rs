//! Compressibility of a picture: the first reward of DDPO (arXiv 2305.13301, section 5.1).

use crate::scorers::measure::{Measure, Scope, Table};
use crate::scorers::scorer::{Declaration, Scorer};
use anyhow::Result;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

/// JPEG quality of DDPO's public code.
const QUALITY: u8 = 95;

/// Minus the size of the picture's JPEG in kB (1000 bytes). Sizes differ by some per cent from those of Pillow's encoder.
pub const COMPRESSIBILITY: Declaration = Declaration {
    name: "compressibility",
    about: "How few bytes a picture takes as JPEG; needs no weights",
    measures: MEASURES,
    files: None,
    reads_vae: false,
    example: "",
    licence: "none: no weights",
    citation: "Black et al. 2023, arXiv 2305.13301, section 5.1",
    open: |_| Ok(Box::new(Compressibility)),
};

const MEASURES: &[Measure] = &[Measure::real("compressibility", "kB", None, Some(0.0), Scope::Picture)];

struct Compressibility;

impl Scorer for Compressibility {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    fn score(&self, pictures: &[RgbImage], _: i64, _: &[&str]) -> Result<Table> {
        let sizes: Result<Vec<f64>> =
            pictures.iter().map(|picture| Ok(-(jpeg(picture)?.len() as f64) / 1000.0)).collect();
        Ok(Table::of_column(sizes?))
    }
}

fn jpeg(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(picture)?;
    Ok(bytes)
}
