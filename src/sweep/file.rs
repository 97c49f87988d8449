//! SWEEP.toml: the question, the trials that answer it, and how they are judged.

use crate::keys::{ConfigError, nearest};
use crate::runs::Filter;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::Table;

crate::choice! {
    /// How points are chosen from the axes.
    #[derive(Default)]
    pub enum Strategy {
        /// Every combination.
        #[default]
        Grid = "grid",
        /// Independent uniform draws.
        Random = "random",
        /// An Owen-scrambled Sobol sequence (Burley 2020): draws that cover the axes evenly.
        Sobol = "sobol",
        /// Successive halving, asynchronous (Li et al. 2020).
        Asha = "asha",
    }
}

crate::choice! {
    /// Which end of a metric is better.
    pub enum Direction {
        Max = "max",
        Min = "min",
    }
}

crate::choice! {
    /// Side of a difference that a claim expects.
    #[derive(Default)]
    pub enum Expect {
        #[default]
        Above = "above",
        Below = "below",
    }
}

crate::choice! {
    /// Side of guidance that a trained model is judged on.
    #[derive(Default)]
    pub enum Side {
        #[default]
        Positive = "positive",
        /// It guides the start model away from itself, as NPO is used.
        Negative = "negative",
    }
}

/// A sweep as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Configuration that every trial without its own starts from.
    pub base: Option<PathBuf>,
    /// Folder of the sweep; default runs/sweeps/FILE.
    pub out: Option<PathBuf>,
    /// Heading of the answer.
    #[serde(default)]
    pub question: String,
    #[serde(default)]
    pub strategy: Strategy,
    /// Number of points that random, sobol and asha draw, per method.
    pub trials: Option<usize>,
    #[serde(default)]
    pub draw_seed: u64,
    #[serde(default = "most_trials")]
    pub max_trials: usize,
    /// Training seeds of every point.
    #[serde(default = "first_seed")]
    pub seeds: Vec<u64>,
    /// Metric that ranks the points.
    pub rank_by: String,
    pub direction: Option<Direction>,
    /// Second metric, of the Pareto front.
    pub second: Option<String>,
    pub second_direction: Option<Direction>,
    /// Further metrics of the answer.
    #[serde(default)]
    pub show: Vec<String>,
    /// Condition on a point's figures; points without it rank behind all others.
    pub require: Option<String>,
    /// Seconds without a sign of life after which a worker counts as dead.
    #[serde(default = "lease")]
    pub lease_s: f64,
    /// Overrides of every trial.
    #[serde(default)]
    pub set: Table,
    #[serde(default)]
    pub axes: Table,
    #[serde(default)]
    pub methods: Vec<Method>,
    #[serde(default)]
    pub claims: Vec<Claim>,
    pub budget: Option<Budget>,
    pub asha: Option<Asha>,
    pub eval: Option<Judge>,
    pub choose: Option<Choose>,
}

/// A method of several: trials with a configuration and axes of their own, or a row made of two trained ones.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    pub name: String,
    /// Heading of its table in answer.md.
    pub group: Option<String>,
    pub base: Option<PathBuf>,
    #[serde(default)]
    pub set: Table,
    /// Added to those of the sweep; one of the same name replaces it.
    #[serde(default)]
    pub axes: Table,
    pub seeds: Option<Vec<u64>>,
    pub trials: Option<usize>,
    #[serde(default)]
    pub side: Side,
    /// Methods whose models both sides of guidance take: nothing is trained.
    pub positive: Option<String>,
    pub negative: Option<String>,
}

/// A sentence about two methods, or about one and the start model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    pub claim: String,
    pub method: String,
    /// Default: the start model.
    pub with: Option<String>,
    /// Default: `rank_by` of the sweep.
    pub metric: Option<String>,
    /// Where the metric of `method` lies.
    #[serde(default)]
    pub expect: Expect,
}

/// Most that all trials together may spend. No training starts once one of the sums is reached.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    pub steps: Option<u64>,
    pub pairs: Option<u64>,
    pub evaluations: Option<u64>,
    pub minutes: Option<f64>,
}

/// Rungs of successive halving.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asha {
    /// Steps of the first rung.
    pub min_steps: u64,
    /// One trial of so many is promoted, to so many times the steps.
    #[serde(default = "eta")]
    pub eta: u64,
}

/// Options of the evaluation of a trial; those of `diffpref eval`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    pub prompts: PathBuf,
    pub prompt_column: Option<String>,
    pub scorer: Vec<String>,
    #[serde(default = "seeds")]
    pub seeds: u64,
    #[serde(default = "other_seeds")]
    pub other_seeds: u64,
    #[serde(default = "steps")]
    pub steps: usize,
    pub guidance_scale: Option<f64>,
    #[serde(default = "batch")]
    pub batch: usize,
    /// Weights of the positive and the negative offset in a negative model, as NPO publishes them.
    #[serde(default = "whole")]
    pub alpha: f64,
    #[serde(default = "whole")]
    pub beta: f64,
}

/// The first of two stages: the best point of every method, by figures on other prompts than those of [eval].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choose {
    pub rank_by: String,
    pub direction: Option<Direction>,
    pub require: Option<String>,
    /// Training seeds that choose; default: the first of the method's.
    pub seeds: Option<Vec<u64>>,
    pub eval: Judge,
}

fn most_trials() -> usize {
    100
}

fn first_seed() -> Vec<u64> {
    vec![0]
}

fn lease() -> f64 {
    60.0
}

fn eta() -> u64 {
    3
}

fn seeds() -> u64 {
    8
}

fn other_seeds() -> u64 {
    3
}

fn steps() -> usize {
    10
}

fn batch() -> usize {
    16
}

fn whole() -> f64 {
    1.0
}

impl Sweep {
    /// Reads a sweep file.
    ///
    /// # Errors
    /// A file that is no sweep, with line and key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let refuse = |problem: String| ConfigError(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path)
            .map_err(|e| refuse(format!("cannot read the sweep: {e}. Give the path of a TOML file.")))?;
        let mut sweep: Self = toml::from_str(&text).map_err(|e| refuse(e.to_string().trim_end().into()))?;
        sweep.check().map_err(refuse)?;
        let stem = path.file_stem().map_or("sweep".into(), |stem| stem.to_string_lossy().into_owned());
        sweep.out.get_or_insert_with(|| Path::new("runs/sweeps").join(stem));
        Ok(sweep)
    }

    /// Folder of the sweep.
    pub fn folder(&self) -> &Path {
        self.out.as_deref().unwrap_or(Path::new("."))
    }

    fn check(&self) -> Result<(), String> {
        if self.seeds.is_empty() || self.methods.iter().any(|method| method.seeds.as_ref().is_some_and(Vec::is_empty)) {
            return Err("seeds = []: expected at least one training seed.".into());
        }
        if !(self.lease_s.is_finite() && self.lease_s > 0.0) {
            return Err(format!("lease_s = {}: expected a number above 0.", self.lease_s));
        }
        for (key, filter) in
            [("require", &self.require), ("choose.require", &self.choose.as_ref().and_then(|c| c.require.clone()))]
        {
            if let Some(text) = filter {
                text.parse::<Filter>().map_err(|e| format!("{key}: {e}"))?;
            }
        }
        self.check_strategy()?;
        self.check_methods()?;
        self.check_claims()?;
        if self.choose.is_some() && self.eval.is_none() {
            return Err("[choose] chooses the points that [eval] judges, and there is no [eval]. Add it.".into());
        }
        if self
            .choose
            .as_ref()
            .is_some_and(|choose| self.eval.as_ref().is_some_and(|eval| eval.prompts == choose.eval.prompts))
        {
            return Err("choose.eval.prompts and eval.prompts are the same file: points would be judged by the prompts that chose them. Give other prompts to one of them.".into());
        }
        Ok(())
    }

    fn check_strategy(&self) -> Result<(), String> {
        let drawn = match self.strategy {
            Strategy::Grid => false,
            Strategy::Random | Strategy::Sobol | Strategy::Asha => true,
        };
        let all_given =
            self.trials.is_some() || !self.methods.is_empty() && self.methods.iter().all(|m| m.trials.is_some());
        if drawn && !all_given {
            return Err(format!("strategy = \"{}\" draws points: trials is missing, their number.", self.strategy));
        }
        if !drawn && (self.trials.is_some() || self.methods.iter().any(|method| method.trials.is_some())) {
            return Err("trials is the number of drawn points, and strategy = \"grid\" takes all. Remove it, or set strategy = \"random\" or \"sobol\".".into());
        }
        match (self.strategy == Strategy::Asha, &self.asha) {
            (true, None) => {
                Err("strategy = \"asha\": [asha] is missing, with min_steps, the steps of the first rung.".into())
            }
            (false, Some(_)) => Err(format!(
                "[asha] is read with strategy = \"asha\", and strategy is \"{}\". Remove one of them.",
                self.strategy
            )),
            (true, Some(asha)) if asha.eta < 2 || asha.min_steps == 0 => {
                Err(format!("[asha] eta = {}, min_steps = {}: expected at least 2 and 1.", asha.eta, asha.min_steps))
            }
            (true, Some(_)) if self.choose.is_some() => {
                Err("[choose] and strategy = \"asha\" both choose points. Remove one of them.".into())
            }
            _ => Ok(()),
        }
    }

    fn check_claims(&self) -> Result<(), String> {
        for Claim { claim, method, with, .. } in &self.claims {
            for name in [Some(method), with.as_ref()].into_iter().flatten() {
                if self.methods.iter().all(|known| known.name != *name) {
                    let known: Vec<&str> = self.methods.iter().map(|method| method.name.as_str()).collect();
                    let hint =
                        nearest(name, &known).map_or(String::new(), |near| format!(", did you mean \"{near}\"?"));
                    return Err(format!("[[claims]] \"{claim}\": there is no method \"{name}\"{hint}"));
                }
            }
            if with.as_ref() == Some(method) {
                return Err(format!(
                    "[[claims]] \"{claim}\": method and with are both \"{method}\". Name two methods."
                ));
            }
        }
        Ok(())
    }

    fn check_methods(&self) -> Result<(), String> {
        for (index, method) in self.methods.iter().enumerate() {
            let name = &method.name;
            if self.methods.iter().take(index).any(|other| other.name == *name) {
                return Err(format!("[[methods]] name = \"{name}\" is there twice. Give each its own."));
            }
            match (&method.positive, &method.negative) {
                (None, None) => {
                    if method.base.is_none() && self.base.is_none() {
                        return Err(format!(
                            "[[methods]] \"{name}\": base is missing, the configuration of its trials."
                        ));
                    }
                }
                (positive, Some(negative)) => {
                    if method.base.is_some() || !method.set.is_empty() {
                        return Err(format!(
                            "[[methods]] \"{name}\" is made of trained methods: base and set train nothing. Remove them."
                        ));
                    }
                    let parents = [positive.as_ref(), Some(negative)];
                    for parent in parents.into_iter().flatten() {
                        let trained = |other: &Method| other.name == *parent && other.negative.is_none();
                        if !self.methods.iter().any(trained) {
                            return Err(format!("[[methods]] \"{name}\": there is no trained method \"{parent}\"."));
                        }
                    }
                    if self.eval.is_none() {
                        return Err(format!("[[methods]] \"{name}\" is only judged, and there is no [eval]. Add it."));
                    }
                }
                (Some(_), None) => {
                    return Err(format!(
                        "[[methods]] \"{name}\": positive is given and negative is not: it would be that method itself."
                    ));
                }
            }
        }
        if self.methods.is_empty() && self.base.is_none() {
            return Err("base is missing: the configuration that the trials start from. Add base = \"configs/NAME.toml\", or [[methods]].".into());
        }
        Ok(())
    }
}
