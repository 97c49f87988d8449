//! Objectives: what is differentiated. One file a method; here is what all of them share.
//!
//! An objective sees the errors of policy and reference as detached leaves ([`Pairs`], [`List`], [`Labels`]) and returns
//! a loss for each pair, list or image. It never sees files, devices, optimizers or the CLI. What it needs to be given is
//! data ([`Needs`]). Notation: docs/methods.md, section 0.

pub mod advantages;
mod bounds;
mod evaluate;
mod leaves;
mod needs;
pub mod safeguard;
pub mod statistics;
mod stepwise;
pub mod timestep_weight;

mod apo_down;
mod apo_zero;
mod bco;
mod cdpo;
mod d3po;
mod ddpo;
mod dense_reward;
mod discopop;
mod dmpo;
mod dpo;
mod dpo_shift;
mod dpok;
mod dspo_score;
mod dspo_sq;
mod focalpo;
mod hinge;
mod hypo;
mod inpo;
mod ipo;
mod kto;
mod lipo_lambda;
mod mapo;
mod mappo;
mod mpo;
mod nca;
mod npo;
mod odpo;
mod plackett_luce;
mod rankdpo;
mod rdpo;
mod rpo;
pub mod self_npo;
mod sft;
mod smpo;
mod spo;
mod sppo_hard;
mod tailorpo;
mod todo;
mod wpo;

pub use evaluate::{
    Compared, Evaluation, ItemLoss, Labelled, Weighting, evaluate, numbers, statistic_values, weight_values,
};
pub use leaves::{Drift, Errors, Labels, List, Pairs, descending, ranked_pairs};
pub use needs::{Inverter, Needs, Other, Rollouts, Units};
pub use spo::best_and_worst;
pub use stepwise::{Ratios, ResidualLoss, StepEvaluation, StepLoss, Unit, evaluate_units};

use crate::keys::{Default, Key, Kind, Range, auto, key};
use tch::Tensor;

/// What a step tells its objective.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// beta of this step (docs/methods.md 0.3); without meaning for methods that have none.
    pub beta: f64,
    /// Number of this step, from 1, and of the last one: for ramps.
    pub number: u64,
    pub steps: u64,
    /// The statistic that the method's needs declare.
    pub statistic: f64,
}

/// A loss of pairs.
pub trait PairLoss {
    /// `[n]`, differentiable with respect to the leaves.
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor;

    /// What docs/methods.md calls u for the method, `[n]`: above 0 the pair is told apart as its label says.
    fn logits(&self, pairs: &Pairs, _: &Step) -> Tensor {
        pairs.u()
    }

    /// Loss weights, `[n]`, where `Needs::weights` says that there are; never differentiated.
    fn weights(&self, _: &Pairs, _: &Step) -> Option<Tensor> {
        None
    }

    /// A factor inside the logit, `[n]`: no loss weight, but worth watching like one.
    fn multiplier(&self, _: &Pairs) -> Option<Tensor> {
        None
    }

    /// The values, `[..]`, whose mean is `Step::statistic`, where `Needs::statistic` declares one.
    fn statistic(&self, pairs: &Pairs) -> Tensor {
        pairs.theta_w().zeros_like()
    }
}

/// The loss of a list in terms: one a pair of its images, or one in all.
pub struct Terms {
    /// `[m]`
    pub losses: Tensor,
    /// `[m]`, never differentiated; `None`: all 1.
    pub weights: Option<Tensor>,
}

/// A loss of ranked lists.
pub trait ListLoss {
    /// The loss of a list is the sum of its terms. `None` leaves the list out of the step: it ranks nothing.
    fn terms(&self, list: &List, step: &Step) -> Option<Terms>;

    /// The weights of a list's terms where they follow from `phi` alone: then they are normalised by their mean over the
    /// training set.
    fn data_weights(&self, _phi: &[f64]) -> Option<Vec<f64>> {
        None
    }
}

/// A loss of labelled images.
pub trait LabelLoss {
    /// `[n]`
    fn losses(&self, labels: &Labels, step: &Step) -> Tensor;

    /// The values, `[..]`, whose mean is `Step::statistic`.
    fn statistic(&self, labels: &Labels) -> Tensor;
}

/// A preference-alignment method.
pub enum Objective {
    Pairs(Box<dyn PairLoss>),
    Lists(Box<dyn ListLoss>),
    Labels(Box<dyn LabelLoss>),
    /// Units of transitions: never given errors.
    Steps(Box<dyn StepLoss>),
    /// Residuals of predicted pictures: never given errors.
    Residuals(Box<dyn ResidualLoss>),
}

/// A registered method: its name, its own hyperparameters, what it needs, and how it is built from a resolved [method].
pub struct Entry {
    pub name: &'static str,
    pub keys: &'static [Key],
    pub needs: Needs,
    pub build: fn(&toml::Table) -> Objective,
}

/// Every method that is built.
pub const REGISTRY: &[Entry] = &[
    dpo::ENTRY,
    sft::ENTRY,
    inpo::ENTRY,
    smpo::ENTRY,
    npo::ENTRY,
    rankdpo::ENTRY,
    lipo_lambda::ENTRY,
    plackett_luce::ENTRY,
    mpo::ENTRY,
    dspo_score::ENTRY,
    dspo_sq::ENTRY,
    dmpo::ENTRY,
    kto::ENTRY,
    mapo::ENTRY,
    ipo::ENTRY,
    hinge::ENTRY,
    cdpo::ENTRY,
    rdpo::ENTRY,
    odpo::ENTRY,
    focalpo::ENTRY,
    dpo_shift::ENTRY,
    rpo::ENTRY,
    todo::ENTRY,
    wpo::ENTRY,
    mappo::ENTRY,
    hypo::ENTRY,
    nca::ENTRY,
    bco::ENTRY,
    sppo_hard::ENTRY,
    apo_zero::ENTRY,
    apo_down::ENTRY,
    discopop::ENTRY,
    d3po::ENTRY,
    spo::ENTRY,
    tailorpo::ENTRY,
    ddpo::ENTRY,
    dpok::ENTRY,
    dense_reward::ENTRY,
    self_npo::ENTRY,
];

/// Methods that are known and that this version refuses: personalised preferences, arXiv 2501.06655.
pub const KNOWN_NOT_BUILT: &[&str] = &["ppd"];

/// Other names that public code has for a method: accepted, and written as the method's own.
pub const ALIASES: &[(&str, &str)] = &[("exo", "dmpo")];

/// Names of docs/methods.md that are no methods of their own but dpo with plug-ins, and which.
pub const PLUG_INS: &[(&str, &str)] = &[
    (
        "timestep-aware",
        "timesteps.law = \"discounted\", timesteps.weighting = \"timestep_aware\" and reference.kind = \"updated\"",
    ),
    ("dense-timesteps", "timesteps.law = \"discounted\""),
    ("balanced", "data.labels = \"vote:A,B,..\" and reference.kind = \"updated\""),
    ("videodpo", "weights.source = \"videodpo\""),
    ("sdpo", "safeguard.name = \"sdpo\""),
];

/// Keys that every offline method has.
pub const PROMPT_DROPOUT: Key = key(
    "prompt_dropout",
    Kind::Real(Range::UNIT),
    Default::Toml("0.2"),
    "probability of the empty prompt, drawn for the whole item",
);
/// As the published runs of a few methods had it.
pub const NO_PROMPT_DROPOUT: Key = Key { default: Default::Toml("0.0"), ..PROMPT_DROPOUT };
pub const ERROR: Key = key(
    "error",
    Kind::Choice(&["epsilon", "native"], &[]),
    Default::Toml("\"epsilon\""),
    "space of margins and metrics of v models",
);
/// beta of most methods, in the units of docs/methods.md 0.3.
pub const BETA: Key =
    key("beta", Kind::Real(Range::POSITIVE), Default::Toml("5000.0"), "strength of the pull to the reference");
/// The same where `beta = "auto"` is allowed.
pub const BETA_AUTO: Key = Key { auto: true, ..BETA };
/// Where scores of pairs come from.
pub const SCORER: Key = key("scorer", Kind::Text, Default::Absent, "whose scores of the rows are read");
/// min-max of those scores.
pub const SCORE_RANGE: Key = auto(
    "score_range",
    Kind::RealPair(Range::ANY),
    Default::Toml("\"auto\""),
    "[lowest, highest] score, mapped to [0, 1]; auto: over both images of all training pairs",
);
const SHARED_NOISE: Key =
    key("shared_noise", Kind::Bool, Default::Toml("false"), "one noise for all images of a list, as pairs have it");

/// A number of a resolved [method] table.
fn real(method: &toml::Table, key: &str) -> f64 {
    method.get(key).and_then(|v| v.as_float().or_else(|| v.as_integer().map(|i| i as f64))).unwrap_or(f64::NAN)
}

/// A text of a resolved [method] table; empty where there is none.
fn text<'a>(method: &'a toml::Table, key: &str) -> &'a str {
    method.get(key).and_then(toml::Value::as_str).unwrap_or_default()
}

/// `[lo, hi]` of `method.score_range`.
fn score_range(method: &toml::Table) -> [f64; 2] {
    let range = method.get("score_range").and_then(toml::Value::as_array);
    let at = |i: usize| range.and_then(|r| r.get(i)).and_then(toml::Value::as_float).unwrap_or(i as f64);
    [at(0), at(1)]
}

/// The registered method called `name`, or known by it elsewhere.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, own)| own);
    REGISTRY.iter().find(|e| e.name == name)
}

/// The method that a checked or resolved configuration names.
pub fn entry_of(config: &toml::Table) -> &'static Entry {
    let name = config.get("method").and_then(|m| m.get("name")).and_then(toml::Value::as_str);
    name.and_then(find).unwrap_or(&dpo::ENTRY)
}

/// What the method of a checked configuration needs.
pub fn needs_of(config: &toml::Table) -> Needs {
    entry_of(config).needs
}

#[cfg(test)]
mod tests;
