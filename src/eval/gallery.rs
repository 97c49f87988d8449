//! Sample pictures: rows of the report, and `sheet.png`.

use super::album::Album;
use super::figures::per_prompt;
use super::groups::{Cell, PromptGroup};
use super::prompts::Prompt;
use crate::metrics::evaluation::GalleryRow;
use crate::numbers::{mean, std};
use crate::painting::{Grid, grid, write_png};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Prompts and seeds shown in the report.
const PROMPTS: usize = 12;
const SEEDS: u64 = 3;

/// Pictures of the prompts of a group.
pub struct Gallery<'a> {
    pub group: &'a PromptGroup,
    pub prompts: &'a [Prompt],
    /// Folders of the albums, relative to the evaluation.
    pub folders: &'a [PathBuf],
}

impl Gallery<'_> {
    /// Prompts spread over the group, with the first seeds.
    pub fn spread(&self) -> Vec<GalleryRow> {
        let prompts = &self.group.prompts;
        let shown = PROMPTS.min(prompts.len());
        (0..shown).map(|k| self.row(prompts[k * prompts.len() / shown], None)).collect()
    }

    /// The prompts on which a model differs most from the first one, the most first. `measures`: `[models][cells]`
    /// numbers of every measure with a better direction.
    pub fn most_different(&self, cells: &[Cell], measures: &[Vec<Vec<f64>>]) -> Vec<GalleryRow> {
        let apart: Vec<Vec<f64>> = measures.iter().filter_map(|models| self.apart(cells, models)).collect();
        let of_prompt = |place: usize| Some((place, mean(apart.iter().filter_map(|one| one.get(place)))?));
        let mut order: Vec<(usize, f64)> = (0..self.group.prompts.len()).filter_map(of_prompt).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let row = |(place, apart): (usize, f64)| self.row(self.group.prompts[place], Some(apart));
        order.into_iter().take(PROMPTS).filter(|(_, apart)| *apart > 0.0).map(row).collect()
    }

    /// Largest difference to the first model on each prompt, in standard deviations over the prompts of all models;
    /// `None` where all are equal.
    fn apart(&self, cells: &[Cell], models: &[Vec<f64>]) -> Option<Vec<f64>> {
        let means: Vec<Vec<f64>> = models.iter().map(|numbers| per_prompt(self.group, cells, numbers)).collect();
        let scale = std(&means.concat()).filter(|scale| *scale > 0.0)?;
        let (first, rivals) = means.split_first()?;
        let of_prompt = |(place, first): (usize, &f64)| {
            rivals.iter().map(|rival| (rival[place] - first).abs() / scale).fold(0.0, f64::max)
        };
        Some(first.iter().enumerate().map(of_prompt).collect())
    }

    fn row(&self, index: usize, apart: Option<f64>) -> GalleryRow {
        let seeds: Vec<u64> = (0..SEEDS.min(self.group.seeds)).collect();
        let file = |folder: &PathBuf, seed: &u64| folder.join(Cell { prompt: index, seed: *seed }.file());
        let files = self.folders.iter().map(|folder| seeds.iter().map(|seed| file(folder, seed)).collect()).collect();
        let Prompt { text, held_out } = self.prompts[index].clone();
        GalleryRow { prompt: text, held_out, seeds, files, apart }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_sorted_by_the_largest_difference_in_standard_deviations() {
        let prompts = ["a", "b", "c"].map(|text| Prompt { text: text.into(), held_out: false });
        let group = PromptGroup { name: "all", prompts: vec![0, 1, 2], seeds: 1 };
        let folders = ["one", "two", "three"].map(PathBuf::from);
        let gallery = Gallery { group: &group, prompts: &prompts, folders: &folders };
        let cells: Vec<Cell> = (0..3).map(|prompt| Cell { prompt, seed: 0 }).collect();
        let small = vec![vec![0.0, 0.0, 0.0], vec![0.0, 0.1, 0.0], vec![0.0, 0.0, 0.3]];
        let large = vec![vec![0.0, 0.0, 0.0], vec![0.0, 100.0, 0.0], vec![0.0, 0.0, 300.0]];
        let constant = vec![vec![1.0; 3]; 3];
        for measures in [vec![small.clone()], vec![large.clone()], vec![small, large, constant]] {
            let rows = gallery.most_different(&cells, &measures);
            assert_eq!(rows.iter().map(|row| row.prompt.as_str()).collect::<Vec<_>>(), ["c", "b"]);
            assert!(rows[0].apart > rows[1].apart);
            assert_eq!(rows[0].files[2], [PathBuf::from("three/0002-0.png")]);
        }
    }
}
