//! Output of a finished training: `final/`, which scorers open, and report.html.

use super::figures::{self, Figures};
use super::learner::Learner;
use super::report;
use super::settings::SavedDtype;
use super::start::copy_files;
use super::work::Work;
use crate::heads::Saved;
use crate::machine::files::{publish_dir, unfinished_dir, write_atomically};
use crate::run_folder::METRICS;
use anyhow::{Context, Result};
use pipelines::models::clip;
use std::path::Path;
use tch::Kind;

pub const FINAL: &str = "final";
pub const REPORT: &str = "report.html";

/// Writes `final/` and the report. `base`: the CLIP that training started from, whose layout is kept.
///
/// # Errors
/// A folder that cannot be written; an unreadable picture.
pub fn write(run: &Path, base: &Path, learner: &Learner) -> Result<Figures> {
    let figures = figures::measure(learner)?;
    let parts = unfinished_dir(run)?;
    let settings = &learner.settings;
    let kind = match settings.model.saved_dtype {
        SavedDtype::Float32 => Kind::Float,
        SavedDtype::Float16 => Kind::Half,
    };
    copy_files(base, parts.path())?;
    clip::write_like(base, parts.path(), &learner.towers.parameters, kind)?;
    let (dimensions, data_sha256) = match &learner.work {
        Work::Judged { corpus, .. } => (corpus.dimensions.clone(), corpus.sha256.clone()),
        Work::Captions(_) => (Vec::new(), Vec::new()),
    };
    let saved = Saved {
        method: settings.method.clone(),
        preprocessing: settings.model.preprocessing,
        width: learner.towers.width(),
        users: users(learner),
        dimensions,
        data_sha256,
        figures: serde_json::to_value(&figures)?,
    };
    saved.write(parts.path(), learner.head.as_ref())?;
    publish_dir(parts, &run.join(FINAL))?;
    let html = report::html(&report::lines(&run.join(METRICS))?, settings, &learner.work, &figures)?;
    write_atomically(&run.join(REPORT), html.as_bytes())?;
    Ok(figures)
}

/// Users of the head; none for a head without users.
fn users(learner: &Learner) -> Vec<String> {
    match learner.settings.method.objective().reads_users() {
        true => learner.head.users().to_vec(),
        false => Vec::new(),
    }
}

/// Figures of a finished training; `None` without `final/`.
///
/// # Errors
/// A damaged scorer.json.
pub fn read(run: &Path) -> Result<Option<Figures>> {
    let Some(saved) = Saved::read(&run.join(FINAL))? else { return Ok(None) };
    let figures =
        serde_json::from_value(saved.figures).with_context(|| format!("figures of {}/final", run.display()))?;
    Ok(Some(figures))
}
