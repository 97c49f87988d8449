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

/// What one loss of a method that samples while it trains is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// A transition of a trajectory, with the advantage of its picture.
    Steps,
    /// The same step of two trajectories of a prompt from one noise: the better picture's first.
    Trajectories,
    /// The best and the worst of several candidates of one step, from one x_t.
    Candidates,
    /// Some steps, drawn ahead, of some trajectories of a prompt, with their scores.
    Lists,
}

impl Units {
    /// The keys of [method] that say how they are made; every method of such units has them.
    pub const fn keys(self) -> &'static [&'static str] {
        match self {
            Units::Steps => &["buffer"],
            Units::Trajectories => &[],
            Units::Candidates => &["candidates", "threshold", "skip_steps", "denoise_ahead"],
            Units::Lists => &["trajectories_per_loss", "gamma", "sampled_steps"],
        }
    }

    /// How many trajectories of a prompt they are defined for; `None`: any.
    pub const fn exactly(self) -> Option<i64> {
        match self {
            Units::Trajectories => Some(2),
            _ => None,
        }
    }
}

/// Whose log-probability the policy's is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// The start model's.
    Start,
    /// The policy's own, as it sampled.
    Sampler,
}

/// How a method samples while it trains. `steps`, `eta`, `guidance_scale` and `trajectories` are the defaults of [rollout].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollouts {
    pub units: Units,
    pub other: Other,
    /// How far noise_pred has drifted from the start model's, both guided.
    pub drift: bool,
    pub steps: i64,
    pub eta: f64,
    pub guidance_scale: f64,
    /// Of a prompt in an iteration.
    pub trajectories: i64,
}

impl Rollouts {
    /// As the step-wise papers sample: 20 DDIM steps, eta 1, guidance 5.
    pub const STEPWISE: Self = Self {
        units: Units::Steps,
        other: Other::Start,
        drift: false,
        steps: 20,
        eta: 1.0,
        guidance_scale: 5.0,
        trajectories: 4,
    };

    /// Whether the start model is asked.
    pub const fn reference(&self) -> bool {
        matches!(self.other, Other::Start) || self.drift
    }
}

/// The needs of a method. Methods start from [`Needs::PAIRS`], [`LISTS`](Self::LISTS), [`LABELS`](Self::LABELS)
/// or [`sampling`](Self::sampling).
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
    /// mu of the safeguard where none is given.
    pub safeguard_mu: f64,
    /// The method trains on trajectories that the policy samples, not on items.
    pub rollouts: Option<Rollouts>,
    /// The method trains on the policy's own predictions after a few steps of denoising (self_npo).
    pub truncated: bool,
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
        safeguard_mu: 0.9,
        rollouts: None,
        truncated: false,
        timestep_weighting: true,
    };
    /// Ranked lists, compared with a reference.
    pub const LISTS: Self = Self { items: ItemKind::Lists, ..Self::PAIRS };
    /// Labelled images, compared with a reference.
    pub const LABELS: Self = Self { items: ItemKind::Labels, ..Self::PAIRS };

    /// Trajectories of the policy's own.
    pub const fn sampling(rollouts: Rollouts) -> Self {
        let reference = rollouts.reference();
        Self { rollouts: Some(rollouts), reference, loser: false, timestep_weighting: false, ..Self::PAIRS }
    }

    /// Whether the method has a loss of errors of items that it is given; the others train on what they sample.
    pub const fn of_errors(&self) -> bool {
        self.rollouts.is_none() && !self.truncated
    }
}
