//! Sample pictures: rows of the report, and `sheet.png`.

use super::album::Album;
use super::groups::{Cell, PromptGroup};
use super::prompts::Prompt;
use crate::metrics::evaluation::GalleryRow;
use crate::painting::{Grid, grid, write_png};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Prompts and seeds shown in the report.
const PROMPTS: usize = 12;
const SEEDS: u64 = 3;

/// Prompts spread over a group, with the first seeds. `folders`: those of the albums, relative to the evaluation.
pub fn rows(group: &PromptGroup, prompts: &[Prompt], folders: &[PathBuf]) -> Vec<GalleryRow> {
    let shown = PROMPTS.min(group.prompts.len());
    let seeds: Vec<u64> = (0..SEEDS.min(group.seeds)).collect();
    let row = |k: usize| {
        let index = group.prompts[k * group.prompts.len() / shown];
        let file = |folder: &PathBuf, seed: &u64| folder.join(Cell { prompt: index, seed: *seed }.file());
        let files = folders.iter().map(|folder| seeds.iter().map(|seed| file(folder, seed)).collect()).collect();
        let Prompt { text, held_out } = prompts[index].clone();
        GalleryRow { prompt: text, held_out, seeds: seeds.clone(), files }
    };
    (0..shown).map(row).collect()
}

/// Writes a sheet with one row per prompt of a group: all seeds of the first model, then those of the next. A sheet
/// too large for one file is skipped.
///
/// # Errors
/// An unreadable picture, or an unwritable file.
pub fn write_sheet(path: &Path, group: &PromptGroup, albums: &[Album]) -> Result<()> {
    let columns = albums.len() * group.seeds as usize;
    let mut pictures = Vec::new();
    for prompt in &group.prompts {
        for album in albums {
            for seed in 0..group.seeds {
                pictures.push(album.picture(Cell { prompt: *prompt, seed })?);
            }
        }
    }
    let side = pictures.first().map_or(0, |picture| picture.width());
    match Grid::of(group.prompts.len(), columns, side, side) {
        Some(_) => {
            let layout = Grid { columns: columns as u32, rows: group.prompts.len() as u32 };
            write_png(path, &grid(layout, &pictures), &[])
        }
        None => Ok(()),
    }
}
