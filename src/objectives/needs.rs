//! What a method asks of the trainer, as data: the trainer supplies it, the configuration check refuses what does not
//! fit, the plan counts it, the docs print it.

use super::statistics::Statistic;
use crate::data::items::ItemKind;

/// How images are inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inverter {
    Ddim,
    /// Every step corrected once.
    ReNoise,
}

/// The needs of a method. Methods start from [`Needs::PAIRS`], [`LISTS`](Self::LISTS) or [`LABELS`](Self::LABELS).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs {
    /// What an item is.
    pub items: ItemKind,
    /// Errors of a reference network.
    pub reference: bool,
    /// The loser of a pair is trained on too.
    pub loser: bool,
    /// `data.ties = "keep"` is allowed: the method has a model of ties.
    pub ties: bool,
    /// Winner and loser change places before anything is drawn: the model learns what is not wanted.
    pub swapped: bool,
    /// Scores of both images of every pair, from the scorer that `method.scorer` names.
    pub scores: bool,
    /// The pairs must have been ranked by that scorer: `data.labels = "score:NAME"`.
    pub score_labels: bool,
    /// Latents come from inverting the images with the policy, not from adding noise.
    pub inversion: Option<Inverter>,
    /// How far the predictions of the policy have drifted from those of the reference ([`Drift`](super::Drift)).
    pub drift: bool,
    /// A number taken over whole steps.
    pub statistic: Option<Statistic>,
    /// The method weighs its losses itself, by what changes while it trains.
    pub weights: bool,
    /// The method weighs its losses by what the data says of a list.
    pub data_weights: bool,
    /// The key with which a hyperparameter follows the number of steps of the run: then it may not change on resume.
    pub ramp: Option<&'static str>,
    /// mu of the safeguard where none is given, for SD1.5 and SD2.1, and for SDXL.
    pub safeguard_mu: [f64; 2],
    /// The method has a logit or an implicit reward that lambda(t) of `timesteps.weighting` can multiply.
    pub timestep_weighting: bool,
}

impl Needs {
    /// Pairs, both trained, compared with a reference.
    pub const PAIRS: Self = Self {
        items: ItemKind::Pairs,
        reference: true,
        loser: true,
        ties: false,
        swapped: false,
        scores: false,
        score_labels: false,
        inversion: None,
        drift: false,
        statistic: None,
        weights: false,
        data_weights: false,
        ramp: None,
        safeguard_mu: [0.9, 0.6],
        timestep_weighting: true,
    };
    /// Ranked lists, compared with a reference.
    pub const LISTS: Self = Self { items: ItemKind::Lists, ..Self::PAIRS };
    /// Labelled images, compared with a reference.
    pub const LABELS: Self = Self { items: ItemKind::Labels, ..Self::PAIRS };
}
