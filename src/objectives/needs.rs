//! Inputs that a method requires, as data. The trainer supplies them, the configuration check refuses what does not
//! fit, the plan counts them, the docs print them.

use super::statistics::Statistic;
use crate::data::items::ItemKind;

/// Inversion of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inverter {
    Ddim,
    /// One correction per step.
    ReNoise,
}

/// Unit of a loss of a method that samples while it trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// A transition of a trajectory, with the advantage of its picture.
    Steps,
    /// The same step of two trajectories of a prompt from one noise, the better picture's first.
    Trajectories,
    /// The best and the worst of several candidates of one step, from one x_t.
    Candidates,
    /// Some steps, drawn in advance, of some trajectories of a prompt, with their scores.
    Lists,
}

impl Units {
    /// The keys of [method] that define them; every method of such units has these keys.
    pub const fn keys(self) -> &'static [&'static str] {
        match self {
            Units::Steps => &["buffer"],
            Units::Trajectories => &[],
            Units::Candidates => &["candidates", "threshold", "skip_steps", "denoise_ahead"],
            Units::Lists => &["trajectories_per_loss", "gamma", "sampled_steps"],
        }
    }

    /// Required number of trajectories per prompt; `None`: any.
    pub const fn exactly(self) -> Option<i64> {
        match self {
            Units::Trajectories => Some(2),
            _ => None,
        }
    }
}

/// The policy whose log-probability is the denominator of the ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// The start model.
    Start,
    /// The policy as it sampled.
    Sampler,
}

/// Sampling while training. `steps`, `eta`, `guidance_scale` and `trajectories` are the defaults of [rollout].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollouts {
    pub units: Units,
    pub other: Other,
    /// Needs the drift of noise_pred from the start model's, both guided.
    pub drift: bool,
    pub steps: i64,
    pub eta: f64,
    pub guidance_scale: f64,
    /// Trajectories per prompt in an iteration.
    pub trajectories: i64,
}

impl Rollouts {
    /// The sampling of the step-wise papers: 20 DDIM steps, eta 1, guidance 5.
    pub const STEPWISE: Self = Self {
        units: Units::Steps,
        other: Other::Start,
        drift: false,
        steps: 20,
        eta: 1.0,
        guidance_scale: 5.0,
        trajectories: 4,
    };

    /// Whether the start model is evaluated.
    pub const fn reference(&self) -> bool {
        matches!(self.other, Other::Start) || self.drift
    }
}

/// The needs of a method. Methods start from [`Needs::PAIRS`], [`LISTS`](Self::LISTS), [`LABELS`](Self::LABELS)
/// or [`sampling`](Self::sampling).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs {
    /// Kind of the items.
    pub items: ItemKind,
    /// Needs errors of a reference network.
    pub reference: bool,
    /// The loser of a pair is trained on too.
    pub loser: bool,
    /// `data.ties = "keep"` is allowed: the method has a model of ties.
    pub ties: bool,
    /// Winner and loser are exchanged before any draw: the model learns what is not wanted.
    pub swapped: bool,
    /// Needs scores of both images of every pair, by the scorer `method.scorer`.
    pub scores: bool,
    /// Pairs must be ranked by that scorer: `data.labels = "score:NAME"`.
    pub score_labels: bool,
    /// Latents are inversions of the images by the policy, not images with added noise.
    pub inversion: Option<Inverter>,
    /// Needs the drift of the policy's predictions from those of the reference ([`Drift`](super::Drift)).
    pub drift: bool,
    /// A number over whole steps.
    pub statistic: Option<Statistic>,
    /// The method has loss weights that depend on training.
    pub weights: bool,
    /// The method has loss weights that follow from a list's data.
    pub data_weights: bool,
    /// Key that ties a hyperparameter to the number of steps of the run, which may then not change on resume.
    pub ramp: Option<&'static str>,
    /// mu of the safeguard where none is given.
    pub safeguard_mu: f64,
    /// The method trains on trajectories that the policy samples, not on items.
    pub rollouts: Option<Rollouts>,
    /// The method trains on the policy's own predictions after a few steps of denoising (self_npo).
    pub truncated: bool,
    /// lambda(t) of `timesteps.weighting` applies: the method has a logit or an implicit reward.
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
        safeguard_mu: 0.9,
        rollouts: None,
        truncated: false,
        timestep_weighting: true,
    };
    /// Ranked lists, compared with a reference.
    pub const LISTS: Self = Self { items: ItemKind::Lists, ..Self::PAIRS };
    /// Labelled images, compared with a reference.
    pub const LABELS: Self = Self { items: ItemKind::Labels, ..Self::PAIRS };

    /// The policy's own trajectories.
    pub const fn sampling(rollouts: Rollouts) -> Self {
        let reference = rollouts.reference();
        Self { rollouts: Some(rollouts), reference, loser: false, timestep_weighting: false, ..Self::PAIRS }
    }

    /// Whether the loss is one of item errors; other methods train on their own samples.
    pub const fn of_errors(&self) -> bool {
        self.rollouts.is_none() && !self.truncated
    }
}
