//! Options of an evaluation on pairs.

use crate::data::filters::Filters;
use crate::data::items::{Holdout, Item, ItemKind, ItemSet, Labels, ReadOptions, Ties};
use crate::denoising::NamedModel;
use crate::keys::ConfigError;
use crate::progress::Progress;
use crate::settings::{HeldOut, HeldOutItems, Settings};
use anyhow::{Result, bail};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// Fewest draws per pair: an error at one noise level says little about a pair.
const FEWEST_DRAWS: u64 = 4;

/// Options of `diffpref eval --pairs`.
#[derive(Debug, Clone)]
pub struct PairsRequest {
    /// At least one; the first is the reference of the others.
    pub models: Vec<NamedModel>,
    /// pairs.jsonl, or a folder with one data file.
    pub pairs: PathBuf,
    /// The run trained on this file; `None`: it did not, all pairs count.
    pub trained_on: Option<TrainedOn>,
    /// Shared noise levels per pair, at least 4.
    pub draws: u64,
    /// Above 0.
    pub beta: f64,
    /// Share of voters for a winner, above 0.5 and below 1.
    pub vote_share: f64,
    /// Pixels per side; `None`: the training size of the first model's network.
    pub resolution: Option<i64>,
    pub device: Device,
    /// Data type of the networks.
    pub kind: Kind,
    /// Threads that decode pictures.
    pub workers: usize,
    pub out: PathBuf,
    pub cache_dir: PathBuf,
}

/// How a run read the pairs that it trained on: only those of its held-out prompts say anything.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedOn {
    /// `validate.fraction`; 0 if nothing of the file was held out.
    pub held_out: f64,
    /// Who ranked the pairs.
    pub labels: Labels,
}

impl TrainedOn {
    /// `None` if the run of `config` did not train on `pairs`.
    pub fn of(config: &Settings, pairs: &Path) -> Option<Self> {
        let items = config.data.items.as_ref()?;
        let (data, pairs) = (items.path.canonicalize().ok()?, pairs.canonicalize().ok()?);
        if data != pairs && Some(data.as_path()) != pairs.parent() {
            return None;
        }
        let held_out = match config.validate.as_ref().map(|validate| &validate.held_out) {
            Some(HeldOut::Items(HeldOutItems { path: None, fraction, .. })) => *fraction,
            Some(HeldOut::Items(_) | HeldOut::Prompts { .. }) | None => 0.0,
        };
        Some(Self { held_out, labels: items.labels.clone() })
    }
}

/// Pairs that count.
pub struct Read {
    pub items: Vec<Item>,
    pub source: PathBuf,
    /// Number of dropped ties.
    pub ties: usize,
}

impl PairsRequest {
    /// # Errors
    /// [`ConfigError`] for a wrong option.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError(text));
        if self.models.is_empty() {
            return refuse("--pairs: there is no model; give --run or --model".into());
        }
        let mut seen = HashSet::new();
        if let Some(model) = self.models.iter().find(|model| !seen.insert(&model.name)) {
            return refuse(format!("--model {}: two models have this name; give each its own", model.name));
        }
        if let Some(model) = self.models.iter().find(|model| model.negative.is_some()) {
            return refuse(format!(
                "--pairs: the negative side of {:?} has no meaning without pictures; leave --negative-lora out",
                model.name
            ));
        }
        if self.draws < FEWEST_DRAWS {
            return refuse(format!("--draws {}: expected at least {FEWEST_DRAWS}", self.draws));
        }
        if !(self.beta.is_finite() && self.beta > 0.0) {
            return refuse(format!("--beta {}: expected a number above 0", self.beta));
        }
        if !(self.vote_share > 0.5 && self.vote_share < 1.0) {
            return refuse(format!("--vote-share {}: expected a number above 0.5 and below 1", self.vote_share));
        }
        Ok(())
    }

    /// Reads the pairs. Ties do not count.
    ///
    /// # Errors
    /// A file that holds no pairs; no pair of a held-out prompt.
    pub fn read(&self, progress: &dyn Progress) -> Result<Read> {
        let options = ReadOptions {
            path: self.pairs.clone(),
            format: None,
            wanted: ItemKind::Pairs,
            ties: Ties::Drop,
            labels: self.trained_on.as_ref().map_or(Labels::Given, |run| run.labels.clone()),
            swapped: false,
            scorer: None,
            holdout: Holdout::Fraction(self.trained_on.as_ref().map_or(0.0, |run| run.held_out)),
            filters: Filters::default(),
        };
        let set = ItemSet::read(&options)?;
        let ties = set.dropped_ties.len() + set.dropped_labels.len();
        let items = match &self.trained_on {
            None => set.train,
            Some(TrainedOn { held_out, .. }) => {
                progress.line(&format!(
                    "{}: the run trained on it; only the {} pairs of its held-out prompts count (validate.fraction = {held_out})",
                    set.index.display(),
                    set.validation.len()
                ));
                set.validation
            }
        };
        if items.is_empty() {
            bail!("{}: no pair belongs to a prompt that the run held out; give other pairs", set.index.display());
        }
        Ok(Read { items, source: set.index, ties })
    }
}
