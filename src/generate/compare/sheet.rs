//! compare.png: one row per prompt and seed, one column per side. Names and prompts are on the page.

use super::gallery::Gallery;
use crate::keys::ConfigError;
use crate::painting::{Grid, grid};
use crate::progress::Progress;
use anyhow::{Context, Result};
use image::RgbImage;
use std::path::Path;

/// Refuses more sides than fit a picture.
pub fn check_width(sides: usize, width: u32) -> Result<(), ConfigError> {
    match sides > Grid::most(width) as usize {
        false => Ok(()),
        true => Err(ConfigError(format!(
            "--compare: {sides} sides of {width} pixels make a picture that nothing opens; compare fewer at once"
        ))),
    }
}

/// Draws the sheet from the pictures' files below `out`. Rows beyond the height limit of common programs appear only
/// on the page, with a message.
pub fn draw(gallery: &Gallery, out: &Path, progress: &dyn Progress) -> Result<RgbImage> {
    let rows = gallery.rows.len().min(Grid::most(gallery.height) as usize);
    if rows < gallery.rows.len() {
        progress.line(&format!(
            "note: compare.png shows the first {rows} of {} rows; compare.html shows all",
            gallery.rows.len()
        ));
    }
    let open = |file: &String| {
        let path = out.join(file);
        let picture = image::open(&path).with_context(|| format!("cannot read {} for the grid", path.display()))?;
        Ok(picture.to_rgb8())
    };
    let files = gallery.rows[..rows].iter().flat_map(|row| &row.files);
    let pictures = files.map(open).collect::<Result<Vec<_>>>()?;
    Ok(grid(Grid { columns: gallery.names.len() as u32, rows: rows as u32 }, &pictures))
}
