//! Several models or option sets from the same noise.

use super::gallery::Gallery;
use super::{page, sheet};
use crate::generate::folder;
use crate::generate::request::Request;
use crate::generate::run::{Job, Outcome};
use crate::keys::ConfigError;
use crate::machine::files::write_atomically;
use crate::painting::write_png;
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// One side of a comparison. Its `request.out` is an output folder of its own.
#[derive(Debug, Clone)]
pub struct Side {
    pub name: String,
    pub request: Request,
}

/// Result of [`compare`].
#[derive(Debug)]
pub struct Compared {
    /// One per side, in their order.
    pub outcomes: Vec<Outcome>,
    /// compare.png
    pub sheet: PathBuf,
    /// compare.html
    pub page: PathBuf,
}

/// Paints the pictures of all sides, one side after the other, with one model in memory at a time. Then lays them
/// side by side in `out`/compare.png and `out`/compare.html.
///
/// All requests must have the same prompts, seeds and numbers of pictures.
///
/// # Errors
/// Those of [`run`](crate::generate::run()) for any side, before the first picture of any; sides that cannot start
/// from the same noise.
pub fn compare(sides: &[Side], out: &Path, resume: bool, progress: &dyn Progress, stop: &Stop) -> Result<Compared> {
    let jobs = sides.iter().map(|side| named(side, Job::check(&side.request, progress))).collect::<Result<Vec<_>>>()?;
    let (width, height) = check_same_noise(sides, &jobs)?;
    sheet::check_width(sides.len(), width)?;

    folder::prepare(out, resume)?;
    sides.iter().try_for_each(|side| folder::prepare(&side.request.out, resume))?;
    // Every side is planned before the first is painted, so that an error of the last appears at once.
    let planned = jobs.into_iter().zip(sides).map(|(job, side)| named(side, job.plan())).collect::<Result<Vec<_>>>()?;
    let mut outcomes = Vec::new();
    for (job, side) in planned.into_iter().zip(sides) {
        progress.line(&format!("side {} of {}: {}", outcomes.len() + 1, sides.len(), side.name));
        outcomes.push(named(side, job.paint(progress, stop))?);
    }

    let names = sides.iter().map(|side| side.name.clone()).collect();
    let gallery = Gallery::of(names, &outcomes, (width, height));
    let (sheet, page) = (out.join("compare.png"), out.join("compare.html"));
    write_png(&sheet, &sheet::draw(&gallery, out, progress)?, &[])?;
    write_atomically(&page, page::html(&gallery, out, &outcomes)?.as_bytes())?;
    Ok(Compared { outcomes, sheet, page })
}

/// Adds the name of the side to an error.
fn named<T>(side: &Side, result: Result<T>) -> Result<T> {
    result.with_context(|| format!("--compare {}", side.name))
}

/// Refuses sides whose pictures or latents differ in size: their seeds would mean different noise. Returns the
/// pictures' size.
fn check_same_noise(sides: &[Side], jobs: &[Job]) -> Result<(u32, u32)> {
    let mut known: Option<(&str, [i64; 2], [i64; 3])> = None;
    for (side, job) in sides.iter().zip(jobs) {
        let (size, noise) = ([job.look.width, job.look.height], job.noise_shape()?);
        let (first, first_size, first_noise) = *known.get_or_insert((&side.name, size, noise));
        if size != first_size {
            let [[a, b], [c, d]] = [first_size, size];
            return Err(ConfigError(format!(
                "--compare: {first} paints {a} x {b} pixels and {} {c} x {d}, so they cannot start from the same noise; \
                 give --width and --height",
                side.name
            ))
            .into());
        }
        if noise != first_noise {
            return Err(ConfigError(format!(
                "--compare: the latents of {first} are {first_noise:?} and those of {} {noise:?}, so they cannot start from \
                 the same noise; compare models whose VAEs have the same factor",
                side.name
            ))
            .into());
        }
    }
    let pixels = |side: i64| u32::try_from(side).context("a size was not checked");
    let [width, height] = known.map_or([0, 0], |(_, size, _)| size);
    Ok((pixels(width)?, pixels(height)?))
}
