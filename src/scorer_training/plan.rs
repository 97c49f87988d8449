//! `--dry-run`: everything that can be checked without training.

use super::captions::Captions;
use super::opened::Opened;
use super::settings::{Settings, Start};
use super::start::tower_groups;
use super::towers::Towers;
use crate::run_folder::holds_steps;
use anyhow::{Context, Result};
use pipelines::models::clip::ClipConfig;
use pipelines::models::{ClipModel, ConfigFile};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

/// Plan of a training.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub method: String,
    pub model: String,
    pub out: String,
    pub holds_a_run: bool,
    pub device: String,
    pub tune: String,
    pub train: usize,
    pub validation: usize,
    pub train_prompts: usize,
    pub validation_prompts: usize,
    pub dropped_ties: usize,
    pub users: Vec<String>,
    pub dimensions: Vec<String>,
    pub steps: u64,
    pub pairs_per_step: u64,
    pub epochs: f64,
    pub parameters: usize,
    pub trained_tower_parameters: usize,
    pub members: u64,
}

/// Checks data and weights; writes nothing.
///
/// # Errors
/// All that a training would refuse before its first step.
pub fn dry_run(settings: Settings) -> Result<Plan> {
    let opened = Opened::open(settings, None)?;
    let settings = &opened.settings;
    let parameters = match settings.model.start {
        Start::Weights => Towers::open(&opened.base, &settings.model)?.parameters,
        Start::Random => {
            let config = ClipConfig::from_file(&ConfigFile::read(&settings.model.path)?).context("model.path")?;
            let empty = |shape: &[i64]| Tensor::empty(shape, (Kind::Float, Device::Cpu));
            ClipModel::parameter_shapes(&config).into_iter().map(|(name, shape)| (name, empty(&shape))).collect()
        }
    };
    let count = |tensors: &[(String, Tensor)]| tensors.iter().map(|(_, tensor)| tensor.numel()).sum::<usize>();
    let trained = tower_groups(&parameters, &settings.model)?;
    let (train, validation, prompts) = match opened.corpus() {
        Some(corpus) => {
            let prompts = (corpus.prompts_of(&corpus.train), corpus.prompts_of(&corpus.validation));
            (corpus.train.len(), corpus.validation.len(), prompts)
        }
        None => (Captions::read(&settings.data.path)?.len(), 0, (0, 0)),
    };
    let corpus = opened.corpus();
    let reads_users = settings.method.objective().reads_users();
    Ok(Plan {
        method: settings.method.objective().to_string(),
        model: settings.model.path.display().to_string(),
        out: settings.train.out.display().to_string(),
        holds_a_run: holds_steps(&settings.train.out),
        device: settings.model.device.to_string(),
        tune: settings.model.tune.to_string(),
        train,
        validation,
        train_prompts: prompts.0,
        validation_prompts: prompts.1,
        dropped_ties: corpus.map_or(0, |corpus| corpus.dropped_ties),
        users: corpus.filter(|_| reads_users).map(|corpus| corpus.users.clone()).unwrap_or_default(),
        dimensions: corpus.map(|corpus| corpus.dimensions.clone()).unwrap_or_default(),
        steps: settings.train.steps,
        pairs_per_step: settings.train.pairs_per_step(),
        epochs: (settings.train.steps * settings.train.pairs_per_step()) as f64 / train.max(1) as f64,
        parameters: count(&parameters),
        trained_tower_parameters: trained.iter().map(|group| count(&group.parameters)).sum(),
        members: settings.train.members,
    })
}

impl Plan {
    /// The plan for people.
    pub fn text(&self) -> String {
        let holds = if self.holds_a_run { " (holds a run)" } else { "" };
        let mut text = format!(
            "{} from {}, into {}{holds}\n{} items of {} prompts to train on, {} of {} prompts held out, {} ties dropped\n",
            self.method,
            self.model,
            self.out,
            self.train,
            self.train_prompts,
            self.validation,
            self.validation_prompts,
            self.dropped_ties
        );
        for (what, names) in [("users", &self.users), ("dimensions", &self.dimensions)] {
            if !names.is_empty() {
                text += &format!("{} {what}: {}\n", names.len(), names.join(", "));
            }
        }
        text += &format!(
            "{} steps of {} = {:.2} epochs, {} on {}; {} of {} parameters of the towers are trained\n",
            self.steps,
            self.pairs_per_step,
            self.epochs,
            self.tune,
            self.device,
            self.trained_tower_parameters,
            self.parameters
        );
        if self.members > 1 {
            text += &format!("{} members, whose mean weights are the result\n", self.members);
        }
        text
    }
}
