//! Ensembles: scorers with other seeds and shares of the data, the strength of every pair by them (RLHF secrets II, arXiv
//! 2401.06080), and their mean weights (WARM, arXiv 2401.12187).

use super::corpus::Judged;
use super::figures::Figures;
use super::finish;
use super::learner::Learner;
use super::opened::Opened;
use super::run::{self, Finished, Host};
use super::settings::{Settings, Start};
use super::work::Work;
use crate::data::items::ImageRef;
use crate::heads::Saved;
use crate::machine::files::{relative_to, write_atomically};
use crate::numbers::{mean, std};
use crate::run_folder::{RESOLVED, Resume, RunDir};
use crate::world::Alone;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// Pairs with their strength.
pub const STRENGTH: &str = "strength.jsonl";
/// Items per pass.
const PASS: usize = 16;

/// A row of strength.jsonl.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    prompt: &'a str,
    winner: ImageRef,
    loser: ImageRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'static str>,
    strength: Strength,
}

/// Mean and standard deviation (over n) of the members' log odds that the winner wins.
#[derive(Serialize)]
struct Strength {
    mean: f64,
    std: f64,
}

/// Trains all members, each in its own folder, then writes their mean and the strength of pairs.
///
/// # Errors
/// Those of a member.
pub fn run(settings: Settings, resume: Resume, host: &Host) -> Result<Finished> {
    let dir = RunDir::open(&settings.train.out, resume, &Alone)?;
    // Every member decides by itself whether it continues.
    let continues = dir.continues(resume, settings.train.overwrite, &run::outputs, None)?;
    write_atomically(&dir.join(RESOLVED), toml::to_string(&settings)?.as_bytes())?;
    let mut folders = Vec::new();
    for member in 1..=settings.train.members {
        let out = dir.join(&format!("member-{member}"));
        let resume = if continues { Resume::Auto } else { Resume::No };
        let finished = run::run(of_member(&settings, member, &out), Some(member), resume, host)?;
        if let Some(accuracy) = finished.figures.accuracy {
            host.progress.line(&format!("member {member}: held-out accuracy {:.3}", accuracy.mean));
        }
        folders.push(out.join(finish::FINAL));
    }
    let figures = together(&settings, &dir, &folders, host)?;
    Ok(Finished { out: dir.path, step: settings.train.steps, figures, already: false })
}

fn of_member(settings: &Settings, member: u64, out: &Path) -> Settings {
    let mut own = settings.clone();
    own.train.out = out.to_path_buf();
    own.train.seed = settings.train.seed + member;
    own.train.overwrite = false;
    own
}

/// Strength of pairs and mean weights, from the members' folders.
fn together(settings: &Settings, dir: &RunDir, folders: &[PathBuf], host: &Host) -> Result<Figures> {
    let first = folders.first().context("an ensemble without members")?;
    let mut last = None;
    let mut strengths: Vec<Vec<f64>> = Vec::new();
    let mut sums: Vec<Tensor> = Vec::new();
    for folder in folders {
        let member = opened(settings, folder, host)?;
        let log_odds = log_odds(&member)?;
        strengths.resize(log_odds.len(), Vec::new());
        strengths.iter_mut().zip(log_odds).for_each(|(all, own)| all.push(own));
        let tensors = all_tensors(&member).into_iter().map(|(_, tensor)| tensor.to_kind(Kind::Double));
        match sums.is_empty() {
            true => sums = tensors.collect(),
            false => sums.iter_mut().zip(tensors).for_each(|(sum, tensor)| *sum += tensor),
        }
        last = Some(member);
    }
    let learner = last.context("an ensemble without members")?;
    {
        let _frozen = tch::no_grad_guard();
        for ((_, tensor), sum) in all_tensors(&learner).into_iter().zip(sums) {
            tensor.shallow_clone().f_copy_(&(sum / folders.len() as f64))?;
        }
    }
    write_strength(dir, &learner, &strengths)?;
    finish::write(&dir.path, first, &learner)
}

/// Towers and head of a finished member, on all data.
fn opened(settings: &Settings, folder: &Path, host: &Host) -> Result<Learner> {
    let mut own = settings.clone();
    own.model.path = folder.to_path_buf();
    own.model.start = Start::Weights;
    let opened = Opened::open(own, None)?;
    let mut learner = opened.learner(folder, host.progress, host.stop)?;
    // The report names the model of the whole training.
    learner.settings = settings.clone();
    let saved = Saved::read(folder)?.with_context(|| format!("{} is no trained scorer", folder.display()))?;
    let head = saved.head(folder, learner.towers.device)?;
    let _frozen = tch::no_grad_guard();
    for ((_, from), (_, to)) in head.parameters().into_iter().zip(learner.head.parameters()) {
        to.shallow_clone().f_copy_(&from).with_context(|| format!("the head of {}", folder.display()))?;
    }
    Ok(learner)
}

fn all_tensors(learner: &Learner) -> Vec<(String, Tensor)> {
    let towers = learner.towers.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    towers.chain(learner.head.parameters()).collect()
}

/// Pairs of all data, training first.
fn all_pairs(learner: &Learner) -> Result<(Vec<&Judged>, &super::corpus::Corpus)> {
    let Work::Judged { corpus, .. } = &learner.work else { anyhow::bail!("captions have no pairs") };
    Ok((corpus.train.iter().chain(&corpus.validation).filter(|item| item.places.is_empty()).collect(), corpus))
}

/// Log odds that the winner wins, of all pairs.
fn log_odds(learner: &Learner) -> Result<Vec<f64>> {
    let _frozen = tch::no_grad_guard();
    let (pairs, _) = all_pairs(learner)?;
    let Work::Judged { features, .. } = &learner.work else { return Ok(Vec::new()) };
    let mut all = Vec::with_capacity(pairs.len());
    for items in pairs.chunks(PASS) {
        let outputs = learner.outputs(features, items)?;
        let outputs = outputs.f_view([items.len() as i64, 2, -1])?;
        let probabilities = learner.head.probabilities(&outputs).to_kind(Kind::Double).clamp(1e-12, 1.0 - 1e-12);
        // Dimensions count alike.
        let odds = probabilities.logit(None::<f64>).f_view([items.len() as i64, -1])?;
        let means = odds.mean_dim([1].as_slice(), false, Kind::Double);
        all.extend(Vec::<f64>::try_from(means)?);
    }
    Ok(all)
}

fn write_strength(dir: &RunDir, learner: &Learner, strengths: &[Vec<f64>]) -> Result<()> {
    let (pairs, corpus) = all_pairs(learner)?;
    ensure!(pairs.len() == strengths.len(), "{} pairs with {} strengths", pairs.len(), strengths.len());
    let mut text = String::new();
    for (pair, members) in pairs.iter().zip(strengths) {
        let path = |place: usize| match &corpus.pictures[pair.pictures[place]] {
            ImageRef::File(path) => relative_to(&dir.path, path).map(ImageRef::File),
            part @ (ImageRef::Cell { .. } | ImageRef::Member { .. }) => Ok(part.clone()),
        };
        let row = Row {
            id: &pair.id,
            prompt: &corpus.prompts[pair.prompt],
            winner: path(0)?,
            loser: path(1)?,
            label: (pair.share == 0.5).then_some("tie"),
            strength: Strength { mean: mean(members).unwrap_or(0.0), std: std(members).unwrap_or(0.0) },
        };
        text += &serde_json::to_string(&row)?;
        text.push('\n');
    }
    write_atomically(&dir.join(STRENGTH), text.as_bytes())
}
