//! How few bytes a picture takes: the first reward of DDPO (arXiv 2305.13301, section 5.1). It needs no weights, so a run can be tried on any
//! model, and whether it learns shows within minutes.

use super::{Scorer, ScorerKind};
use anyhow::Result;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

/// Of the JPEG, as DDPO's public code has it.
const QUALITY: u8 = 95;

/// Minus the size of the picture's JPEG in kB (1000 bytes). The encoder is not Python's: sizes differ from those that
/// Pillow writes by some per cent.
pub const COMPRESSIBILITY: ScorerKind =
    ScorerKind { name: "compressibility", folder: None, open: |_, _| Ok(Box::new(Compressibility)) };

struct Compressibility;

impl Scorer for Compressibility {
    fn score(&self, pictures: &[RgbImage], _: i64, _: &[&str]) -> Result<Vec<f64>> {
        pictures.iter().map(|picture| Ok(-(jpeg(picture)?.len() as f64) / 1000.0)).collect()
    }
}

fn jpeg(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(picture)?;
    Ok(bytes)
}
