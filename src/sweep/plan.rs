//! Points and trials of a sweep.

use super::file::Side;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Settings of a training by dotted key.
pub type Written = BTreeMap<String, Value>;

/// A combination of values; its trials differ in the training seed alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Index of its method in [`Plan::methods`].
    pub method: usize,
    /// Values of its axes as (name of the axis, label).
    pub coordinates: Vec<(String, String)>,
    pub made: Made,
    pub judging: Judging,
}

/// How the pictures of a point are made.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    /// By a model that the trial trains.
    Trained { side: Side },
    /// By models of other methods: indices of methods.
    Composed { positive: Option<usize>, negative: usize },
}

/// Options of the evaluation that a point overrides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judging {
    pub guidance_scale: Option<f64>,
    pub steps: Option<usize>,
    pub alpha: Option<f64>,
    pub beta: Option<f64>,
}

/// A point with a training seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// From 1; its folder has the same number.
    pub number: usize,
    /// Index in [`Plan::points`].
    pub point: usize,
    pub seed: u64,
    /// `None` for a composed point.
    pub training: Option<Training>,
    /// Part of the choice between the points of its method.
    pub chooses: bool,
    /// Part of the answer, if its point is.
    pub judges: bool,
}

/// A configuration to train.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    pub config: PathBuf,
    /// Overrides, without `train.out`.
    pub sets: Vec<String>,
    /// The configuration with the overrides.
    pub written: Written,
    /// Hash of `written`.
    pub key: String,
    /// Number of the trial whose folder has the run: the first one with equal settings.
    pub owner: usize,
}

/// Every point and trial, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Names; one empty name for a sweep without methods.
    pub methods: Vec<String>,
    pub points: Vec<Point>,
    pub trials: Vec<Trial>,
    /// Steps of every rung; one `None` without successive halving.
    pub rungs: Vec<Option<u64>>,
}

impl Plan {
    /// Method and coordinates: "dpo, optim.lr 0.001".
    pub fn title(&self, point: usize) -> String {
        let point = &self.points[point];
        let name = self.methods[point.method].clone();
        let values = point.coordinates.iter().map(|(axis, label)| format!("{axis} {label}"));
        let parts: Vec<String> = Some(name).filter(|name| !name.is_empty()).into_iter().chain(values).collect();
        if parts.is_empty() { "the base configuration".into() } else { parts.join(", ") }
    }

    /// Title of the point and seed: the identity of a trial when the sweep file changes.
    pub fn name(&self, trial: &Trial) -> String {
        format!("{}, seed {}", self.title(trial.point), trial.seed)
    }

    pub fn trial(&self, number: usize) -> Option<&Trial> {
        self.trials.iter().find(|trial| trial.number == number)
    }

    /// Trials of a point.
    pub fn of_point(&self, point: usize) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(move |trial| trial.point == point)
    }

    /// Points of a method.
    pub fn of_method(&self, method: usize) -> impl Iterator<Item = usize> {
        (0..self.points.len()).filter(move |point| self.points[*point].method == method)
    }

    /// Whether a method trains one model per seed: its points differ in the evaluation alone.
    pub fn is_one_model(&self, method: usize) -> bool {
        let trials = || self.trials.iter().filter(|trial| self.points[trial.point].method == method);
        let keys = |trial: &Trial| trial.training.as_ref().map(|training| training.key.clone());
        trials().all(|trial| trials().all(|other| trial.seed != other.seed || keys(trial) == keys(other)))
    }

    /// Gives trials the numbers of `known` names, new ones the next free numbers, and settles who trains.
    pub fn number(&mut self, known: &BTreeMap<String, usize>) {
        let mut next = known.values().copied().max().unwrap_or(0);
        for index in 0..self.trials.len() {
            let name = self.name(&self.trials[index]);
            let number = known.get(&name).copied().unwrap_or_else(|| {
                next += 1;
                next
            });
            self.trials[index].number = number;
        }
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        for trial in &self.trials {
            if let Some(training) = &trial.training {
                let owner = owners.entry(training.key.clone()).or_insert(trial.number);
                *owner = (*owner).min(trial.number);
            }
        }
        for training in self.trials.iter_mut().filter_map(|trial| trial.training.as_mut()) {
            training.owner = owners[&training.key];
        }
    }

    /// Number of trainings.
    pub fn trainings(&self) -> usize {
        self.trials.iter().filter(|trial| trial.trains()).count()
    }
}

impl Trial {
    /// Whether its folder has the run.
    pub fn trains(&self) -> bool {
        self.training.as_ref().is_some_and(|training| training.owner == self.number)
    }
}
