//! Pictures inside the page, and the sample grid of a run.

use crate::data::items::ImageRef;
use crate::metrics::SamplePlan;
use crate::painting::{inline_picture, inline_png};
use anyhow::{Result, anyhow};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Largest side of a picture in the page, in pixels; larger ones are reduced. The original files remain in the
/// folder.
const LARGEST_SIDE: u32 = 256;

/// A picture as a `data:` address, for a self-contained page.
///
/// # Errors
/// A missing file or one that is no PNG.
pub fn inline(path: &Path) -> Result<String> {
    inline_png(path, LARGEST_SIDE)
}

/// A picture of any format that training reads as a `data:` address, its larger side at most `side` pixels.
///
/// # Errors
/// A missing or damaged picture.
pub fn thumbnail(image: &ImageRef, side: u32) -> Result<String> {
    inline_picture(&image.decoded().map_err(|e| anyhow!("{image}: {e}"))?, side)
}

/// Pictures of equal prompts and seeds before training and at the newest step.
#[derive(Debug, Serialize)]
pub struct SampleGrid {
    /// Step of the pictures on the right; `None` while only those before training exist.
    pub step: Option<u64>,
    pub seeds: Vec<i64>,
    pub rows: Vec<PictureRow>,
}

/// Pictures of one prompt, as `data:` addresses; an absent picture is `None`.
#[derive(Debug, Serialize)]
pub struct PictureRow {
    pub prompt: String,
    /// Below the prompt; may be empty.
    pub note: String,
    /// Pictures of one model each.
    pub sides: Vec<Vec<Option<String>>>,
}

/// The sample grid of a run; `None` without samples.
///
/// # Errors
/// A damaged `samples/prompts.json`, or an invalid picture.
pub fn sample_grid(run_dir: &Path) -> Result<Option<SampleGrid>> {
    let samples = run_dir.join("samples");
    let steps = sample_steps(&samples);
    let Some(first) = steps.first() else { return Ok(None) };
    let Some(plan) = SamplePlan::read(&samples)? else { return Ok(None) };
    // While a grid is being written its last pictures are missing: the step before it is whole.
    let whole =
        |step: &&(u64, PathBuf)| picture(&step.1, plan.prompts.len().wrapping_sub(1), plan.seeds.last()).is_some();
    let last = steps.iter().rev().find(whole).filter(|step| step.0 > first.0);
    let row = |(index, prompt): (usize, &String)| -> Result<PictureRow> {
        let of = |(_, dir): &(u64, PathBuf)| -> Result<Vec<Option<String>>> {
            plan.seeds
                .iter()
                .map(|seed| picture(dir, index, Some(seed)).map(|path| inline(&path)).transpose())
                .collect()
        };
        let sides = std::iter::once(first).chain(last).map(of).collect::<Result<_>>()?;
        Ok(PictureRow { prompt: prompt.clone(), note: String::new(), sides })
    };
    let rows = plan.prompts.iter().enumerate().map(row).collect::<Result<_>>()?;
    Ok(Some(SampleGrid { step: last.map(|step| step.0), seeds: plan.seeds, rows }))
}

fn picture(dir: &Path, prompt: usize, seed: Option<&i64>) -> Option<PathBuf> {
    let path = dir.join(format!("{prompt:02}-{}.png", seed?));
    path.is_file().then_some(path)
}

/// The folders `step-NNNNNN`, in the order of their steps.
fn sample_steps(samples: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(samples).into_iter().flatten().flatten();
    let step = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        Some((number, path))
    };
    let mut steps: Vec<_> = entries.filter_map(|entry| step(entry.path())).collect();
    steps.sort();
    steps
}
