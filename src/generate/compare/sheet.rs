//! compare.png: one row per prompt and seed, one column per side, captions above.

use super::lettering::{self, LETTER, wrap};
use super::{Gallery, Row};
use crate::painting::LARGEST_SIDE;
use crate::progress::Progress;
use crate::settings::ConfigError;
use anyhow::{Context, Result};
use image::{Rgb, RgbImage, imageops};
use std::path::Path;

/// Pixels between pictures, and around captions.
const GAP: u32 = 8;
/// Minimum column width: a narrower column has no room for its name.
const NARROWEST: u32 = 128;
/// Lines of a caption.
const LINES: u32 = 2;

/// Sizes of a sheet, in pixels.
struct Measures {
    /// Width of one column, without the gap.
    column: u32,
    width: u32,
    scale: u32,
    /// Height of the names above all rows.
    head: u32,
    /// Height of a row: its caption and its pictures.
    row: u32,
}

impl Measures {
    fn of(columns: usize, width: u32, height: u32) -> Option<Self> {
        let column = width.max(NARROWEST);
        let columns = u32::try_from(columns).ok()?;
        let sheet = columns.checked_mul(column + GAP)?.checked_add(GAP)?;
        let scale = if width >= 2 * NARROWEST { 2 } else { 1 };
        let line = LETTER * scale + scale;
        let head = GAP + line;
        let row = GAP + LINES * line + GAP / 2 + height;
        (sheet <= LARGEST_SIDE).then_some(Self { column, width: sheet, scale, head, row })
    }

    fn letters(&self, pixels: u32) -> usize {
        (pixels / (LETTER * self.scale)) as usize
    }
}

/// Refuses more sides than fit a picture.
pub fn check_width(sides: usize, width: u32) -> Result<(), ConfigError> {
    match Measures::of(sides, width, 0) {
        Some(_) => Ok(()),
        None => Err(ConfigError(format!(
            "--compare: {sides} sides of {width} pixels make a picture that nothing opens; compare fewer at once"
        ))),
    }
}

/// Draws the sheet from the pictures' files below `out`. Rows beyond the height limit of common programs appear only
/// on the page, with a message.
pub fn draw(gallery: &Gallery, out: &Path, progress: &dyn Progress) -> Result<RgbImage> {
    let measures =
        Measures::of(gallery.names.len(), gallery.width, gallery.height).context("a sheet was not checked")?;
    let most = ((LARGEST_SIDE - measures.head - GAP) / measures.row) as usize;
    let rows = gallery.rows.len().min(most);
    if rows < gallery.rows.len() {
        progress.line(&format!(
            "note: compare.png shows the first {rows} of {} rows, more than {LARGEST_SIDE} pixels open nowhere; compare.html \
             shows all",
            gallery.rows.len()
        ));
    }
    let height = measures.head + rows as u32 * measures.row + GAP;
    let mut sheet = RgbImage::from_pixel(measures.width, height, Rgb([255; 3]));
    for (column, name) in gallery.names.iter().enumerate() {
        let name = wrap(name, measures.letters(measures.column), 1).remove(0);
        lettering::draw(&mut sheet, &name, left(&measures, column), GAP, measures.scale);
    }
    for (index, row) in gallery.rows[..rows].iter().enumerate() {
        draw_row(&mut sheet, &measures, measures.head + index as u32 * measures.row, row, out)?;
    }
    Ok(sheet)
}

fn left(measures: &Measures, column: usize) -> u32 {
    GAP + column as u32 * (measures.column + GAP)
}

fn draw_row(sheet: &mut RgbImage, measures: &Measures, top: u32, row: &Row, out: &Path) -> Result<()> {
    let line = LETTER * measures.scale + measures.scale;
    let seed = format!(" (seed {})", row.seed);
    let letters = measures.letters(measures.width - 2 * GAP);
    let mut caption = wrap(&format!("{}{seed}", row.prompt), letters, LINES as usize);
    if let Some(last) = caption.last_mut().filter(|last| last.ends_with("...")) {
        // A shortened caption keeps its seed: rows of one prompt differ in nothing else.
        let kept: String = last.chars().take(letters.saturating_sub(seed.len() + 3)).collect();
        *last = format!("{}...{seed}", kept.trim_end_matches('.'));
    }
    for (index, text) in caption.iter().enumerate() {
        lettering::draw(sheet, text, GAP, top + GAP + index as u32 * line, measures.scale);
    }
    let top = top + GAP + LINES * line + GAP / 2;
    for (column, file) in row.files.iter().enumerate() {
        let path = out.join(file);
        let picture = image::open(&path).with_context(|| format!("cannot read {} for the grid", path.display()))?;
        imageops::replace(sheet, &picture.to_rgb8(), i64::from(left(measures, column)), i64::from(top));
    }
    Ok(())
}
