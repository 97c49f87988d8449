//! `diffpref data inspect` as a library call.

use super::contents::contents;
use super::gather::{Gathered, gather};
use super::page;
use super::summary::{Inspection, Ranking};
use crate::data::items::{Format, ItemKind};
use crate::denoising::NamedModel;
use crate::eval::implicit::{PairsRequest, judge};
use crate::keys::ConfigError;
use crate::machine::files::write_atomically;
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result};
use std::cmp::Reverse;
use std::path::PathBuf;
use tch::{Device, Kind};

/// Options of `diffpref data inspect`.
#[derive(Debug, Clone)]
pub struct InspectRequest {
    pub path: PathBuf,
    /// `None`: recognised.
    pub format: Option<Format>,
    /// Most pairs whose images are read; `None`: all images.
    pub read_pairs: Option<usize>,
    /// Rows on the contact sheet.
    pub shown: usize,
    pub seed: u64,
    /// The contact sheet.
    pub page: Option<PathBuf>,
    /// A model whose ranking of the pairs is measured.
    pub model: Option<NamedModel>,
    /// Pixels per side for the model; `None`: its own.
    pub resolution: Option<i64>,
    pub device: Device,
    pub workers: usize,
    pub cache_dir: PathBuf,
}

/// Looks at a data set.
///
/// # Errors
/// Files of no known format, the first row that is refused; a model and data without pairs; `Stopped`.
pub fn inspect(request: &InspectRequest, progress: &dyn Progress, stop: &Stop) -> Result<Inspection> {
    let gathered = gather(&request.path, request.format, request.shown, request.seed, stop)?;
    let contents = match request.read_pairs {
        Some(0) => None,
        pairs => Some(contents(&gathered, pairs, request.workers, progress, stop)?),
    };
    let model = request.model.as_ref().map(|model| ranking(request, model, &gathered, progress, stop)).transpose()?;
    let mut users: Vec<(String, usize)> = gathered.users.iter().map(|(name, n)| (name.clone(), *n)).collect();
    users.sort_by_key(|user| Reverse(user.1));
    let inspection = Inspection {
        path: request.path.clone(),
        format: gathered.format,
        kind: gathered.kind,
        rows: gathered.rows,
        unlabelled: gathered.unlabelled,
        ties: gathered.ties,
        desirable: gathered.desirable,
        prompts: gathered.prompts.len(),
        most_per_prompt: gathered.most_per_prompt,
        images: gathered.images.len(),
        users,
        generators: gathered.generators.clone(),
        scores: gathered.scores.clone(),
        findings: gathered.findings.clone(),
        contents,
        model,
    };
    if let Some(file) = &request.page {
        write_atomically(file, page::html(&inspection, &gathered.sample)?.as_bytes())?;
    }
    Ok(inspection)
}

fn ranking(
    request: &InspectRequest,
    model: &NamedModel,
    gathered: &Gathered,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Ranking> {
    if gathered.kind != ItemKind::Pairs {
        let text =
            format!("--model ranks pairs, and {} holds {}; leave it out", request.path.display(), gathered.kind.noun());
        return Err(ConfigError(text).into());
    }
    let out = tempfile::tempdir().context("cannot make a temporary folder")?;
    let evaluation = judge(
        &PairsRequest {
            models: vec![model.clone()],
            pairs: request.path.clone(),
            trained_on: None,
            draws: 4,
            beta: 5000.0,
            vote_share: 0.75,
            resolution: request.resolution,
            device: request.device,
            kind: if request.device == Device::Cpu { Kind::Float } else { Kind::BFloat16 },
            workers: request.workers,
            out: out.path().to_path_buf(),
            cache_dir: request.cache_dir.clone(),
        },
        progress,
        stop,
    )?;
    let first = evaluation.models.first().context("the evaluation has no model")?;
    Ok(Ranking { model: first.source.clone(), pairs: evaluation.pairs, ranking_accuracy: first.ranking_accuracy })
}
