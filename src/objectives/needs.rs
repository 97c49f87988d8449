//! Inputs that a method requires, as values. The trainer supplies them, the configuration check refuses what does not
//! fit, the plan counts them, the docs print them.

use super::shared::{BetaRule, ErrorSpace, Offline};
use super::statistics::Statistic;
use crate::data::batches::NoiseRule;
use crate::data::items::ItemKind;
use crate::keys::{Auto, Key, Range, one_of, switch, whole, within};

/// Inversion of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inverter {
    Ddim,
    /// One correction per step.
    ReNoise,
}

crate::choice! {
    /// Noise levels of an inversion's path.
    pub enum InversionGrid {
        /// Up to t itself.
        Exact = "exact",
        /// Up to the next level of a grid, as in the public code.
        Published = "published",
    }
}

pub const INVERSION: Key = one_of::<InversionGrid>()
    .or_text("exact")
    .helped(" exact: up to t itself; published: up to the next level of a grid, as the public code does");
pub const INVERSION_STEPS: Key = whole(1, 1000).helped(" steps of a whole inversion, from 0 to the last timestep");

/// Latents are inversions of the images by the policy, not images with added noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inversion {
    pub inverter: Inverter,
    pub grid: InversionGrid,
    /// Steps from timestep 0 to the last one.
    pub steps: i64,
    /// Share of noise added after each step, in [0, 1].
    pub eta: f64,
}

crate::choice! {
    /// Start of truncated rollouts.
    pub enum Start {
        /// Pictures of the data, noised to a level of the grid.
        Data = "data",
        /// Noise alone.
        Noise = "noise",
    }
}

/// Rollouts of a few denoising steps by the averaged model, whose prediction is the target (self_npo).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truncation {
    pub start: Start,
    /// Steps of denoising.
    pub steps: usize,
    /// w of x_0 = x_0c + w (x_0c - x_0u).
    pub guidance: f64,
    /// Decay of the average that samples, in (0, 1).
    pub ema_decay: f64,
}

pub const CANDIDATES: Key =
    whole(2, 64).by_family("4").helped(" how many x_p are drawn from one x_t to choose best and worst from");
pub const THRESHOLD: Key = within(Range::FRACTION)
    .by_family("0.3")
    .helped(" a pair is kept if tanh of half the gap of its scores is above this");
pub const SKIP_STEPS: Key = whole(0, 1000).or("4").helped(" first, noisiest steps of a trajectory without candidates");
pub const DENOISE_AHEAD: Key =
    whole(0, 1000).by_family("0").helped(" steps that a candidate is denoised further before it is scored");

crate::keys! {
    /// Candidates of the steps of a trajectory.
    #[derive(Copy, PartialEq)]
    pub struct Candidates {
        candidates: usize = CANDIDATES,
        threshold: f64 = THRESHOLD,
        skip_steps: usize = SKIP_STEPS,
        denoise_ahead: usize = DENOISE_AHEAD,
    }
}

crate::keys! {
    /// Steps and trajectories of a prompt that one loss ranks.
    #[derive(Copy, PartialEq)]
    pub struct Lists {
        /// chance of a step over that of the noisier one before it
        gamma: f64 = within(Range::SHARE).or("0.9"),
        /// steps drawn for a loss
        sampled_steps: usize = whole(1, 1000).or("1"),
        /// trajectories of a prompt that a loss ranks
        trajectories_per_loss: usize = whole(2, 64).or("2"),
    }
}

crate::choice! {
    /// Scale of the advantages of a group.
    pub enum Spread {
        /// Standard deviation of the group's rewards, over G - 1.
        Group = "group",
        /// Standard deviation of all rewards of the iteration, over N, as in Flow-GRPO.
        Batch = "batch",
    }
}

crate::choice! {
    /// A second scale of advantages, over the whole iteration.
    pub enum Renormalise {
        None = "none",
        /// (A - mean) / std over N - 1, as in Pref-GRPO.
        Batch = "batch",
    }
}

crate::keys! {
    /// Transitions of trajectories that are compared among those of their prompt.
    #[derive(Copy, PartialEq)]
    pub struct Groups {
        /// std of advantages: group: of the prompt's rewards; batch: of all rewards of an iteration
        std: Spread = one_of::<Spread>().or_text("group"),
        /// batch: weighted sums of advantages are standardised over the iteration
        renormalise: Renormalise = one_of::<Renormalise>().or_text("none"),
        /// share of a trajectory's steps that is trained, drawn per trajectory
        timestep_fraction: f64 = within(Range::SHARE).or("0.6"),
        /// last, least noisy steps of a trajectory that are not trained
        skip_last: usize = whole(0, 1000).or("1"),
        /// share of its reward that the likeliest picture of a prompt loses (arXiv 2506.02355); rewards in [0, 1]
        unlikeliness: f64 = within(Range::FRACTION).or("0.0"),
        /// prompts whose pictures are nearly all good or all bad are measured by deviation in percent (arXiv 2509.18849); rewards in [0, 1]
        mixed_advantage: bool = switch().or("false"),
    }
}

/// Unit of a loss of a method that samples while it trains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Units {
    /// A transition of a trajectory, with the advantage of its picture over the last `buffer` rewards of the prompt.
    Steps { buffer: usize },
    /// One step of two trajectories of a prompt from one noise, the better picture's first.
    Trajectories,
    /// The best and the worst of several candidates of one step, from one x_t.
    Candidates(Candidates),
    /// Some steps, drawn in advance, of some trajectories of a prompt, with their scores.
    Lists(Lists),
    /// A transition of a trajectory, with the advantage of its picture over those of the prompt in the iteration.
    Groups(Groups),
}

/// Facts of a kind of unit that the settings of [rollout] follow from.
#[derive(Debug, Clone, Copy)]
pub struct UnitRules {
    /// Required number of trajectories per prompt; `None`: any.
    pub exactly: Option<i64>,
    /// Lowest number of trajectories per prompt.
    pub at_least: usize,
    /// Trajectories of a prompt that one unit reads.
    pub reads: usize,
    /// First steps of a trajectory that are not trained.
    pub skipped: usize,
    /// Whether trajectories of a prompt start from one noise where nothing else is set.
    pub shared_noise: bool,
    /// Whether they must: a unit compares them step by step.
    pub step_by_step: bool,
    /// Lowest eta.
    pub lowest_eta: f64,
    /// Last steps of a trajectory that are not trained.
    pub skipped_last: usize,
    /// Whether rewards of candidates of one trajectory are compared, not those of several trajectories.
    pub of_candidates: bool,
    /// Updates per iteration if not set; `None`: one pass over its units.
    pub updates: Option<u64>,
    /// Units per iteration for so many prompts, trajectories and steps; `None`: known only after its pictures are rated.
    pub count: Option<fn(f64, f64, f64) -> f64>,
}

impl UnitRules {
    const ANY: Self = Self {
        exactly: None,
        at_least: 1,
        reads: 1,
        skipped: 0,
        shared_noise: false,
        step_by_step: false,
        lowest_eta: 0.0,
        skipped_last: 0,
        of_candidates: false,
        updates: None,
        count: None,
    };
}

impl Units {
    pub const fn rules(self) -> UnitRules {
        match self {
            Units::Steps { .. } => UnitRules {
                count: Some(|prompts, trajectories, steps| prompts * trajectories * steps),
                ..UnitRules::ANY
            },
            // The two trajectories of a prompt form one pair per step.
            Units::Trajectories => UnitRules {
                exactly: Some(2),
                shared_noise: true,
                step_by_step: true,
                count: Some(|prompts, _, steps| prompts * steps),
                ..UnitRules::ANY
            },
            Units::Candidates(candidates) => {
                UnitRules { skipped: candidates.skip_steps, of_candidates: true, ..UnitRules::ANY }
            }
            // Lists are drawn again and again: there is no pass (docs/methods.md, section 3).
            Units::Lists(lists) => {
                UnitRules { reads: lists.trajectories_per_loss, updates: Some(4000), ..UnitRules::ANY }
            }
            // Fewer trajectories say little about the spread of a prompt's rewards; with a smaller eta sigma shrinks
            // and ratios explode.
            Units::Groups(groups) => UnitRules {
                at_least: 4,
                shared_noise: true,
                lowest_eta: 0.5,
                skipped_last: groups.skip_last,
                ..UnitRules::ANY
            },
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

/// Distance of the policy from the start model at a transition, both guided; mean over C, H, W.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepDrift {
    /// (noise_pred_theta - noise_pred_start)^2
    Prediction,
    /// (mu_theta - mu_start)^2 / (2 sigma_t^2)
    Mean,
}

/// The log-ratio r of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepRatio {
    /// log p_theta - log p_other
    LogProb,
    /// sigma_t (log p_theta - log p_old + mean (mu_theta - mu_old)^2 / (2 sigma_t^2)) = mean of (mu_theta - mu_old) z
    Normed,
}

/// Sampling while training. `steps`, `eta`, `guidance_scale` and `trajectories` are the defaults of [rollout].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollouts {
    pub units: Units,
    pub other: Other,
    pub drift: Option<StepDrift>,
    pub ratio: StepRatio,
    pub steps: i64,
    pub eta: f64,
    pub guidance_scale: f64,
    /// Trajectories per prompt in an iteration.
    pub trajectories: i64,
}

impl Rollouts {
    /// The sampling of the step-wise papers: 20 DDIM steps, eta 1, guidance 5.
    pub const STEPWISE: Self = Self {
        units: Units::Trajectories,
        other: Other::Start,
        drift: None,
        ratio: StepRatio::LogProb,
        steps: 20,
        eta: 1.0,
        guidance_scale: 5.0,
        trajectories: 4,
    };

    /// Whether the start model is evaluated.
    pub const fn reference(&self) -> bool {
        matches!(self.other, Other::Start) || self.drift.is_some()
    }
}

/// Scores of both images of every pair, read by the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Name of the scorer; `None`: not known yet.
    pub scorer: Option<String>,
    /// Pairs must be ranked by that scorer: `data.labels = "score:NAME"`.
    pub ranks: bool,
    /// Lowest and highest score, if the loss maps them to [0, 1].
    pub range: Option<Auto<[f64; 2]>>,
    /// Scores are chances, in [0, 1].
    pub chances: bool,
}

impl Scored {
    /// Unchanged scores.
    pub fn by(scorer: Option<String>) -> Self {
        Self { scorer, ranks: false, range: None, chances: false }
    }

    /// Chances under this name, written by `diffpref pairs`.
    pub fn chances(name: &str) -> Self {
        Self { chances: true, ..Self::by(Some(name.into())) }
    }
}

/// Size of the steps of a loss that reads all items of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeStep {
    /// Fewest items.
    pub least: u64,
    /// Items in a row that share one noise level and are compared; a step is a multiple of it.
    pub block: Option<u64>,
}

/// The needs of a method. Methods start from [`pairs`](Self::pairs), [`lists`](Self::lists), [`labels`](Self::labels)
/// or [`sampling`](Self::sampling).
#[derive(Debug, Clone)]
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
    pub scores: Option<Scored>,
    pub inversion: Option<Inversion>,
    /// Needs the drift of the policy's predictions from those of the reference ([`Drift`](super::Drift)).
    pub drift: bool,
    /// A number over whole steps.
    pub statistic: Option<Statistic>,
    /// The loss of an item depends on the other items of its step.
    pub whole_step: Option<WholeStep>,
    /// Needs an embedding of every item's prompt.
    pub prompts: bool,
    /// Labelled images may be all desirable or all undesirable.
    pub one_class: bool,
    /// Condition on the method's keys that undesirable images require and that does not hold.
    pub undesirable_requires: Option<&'static str>,
    /// The method has loss weights that depend on training.
    pub weights: bool,
    /// The method has loss weights that follow from a list's data.
    pub data_weights: bool,
    /// A hyperparameter depends on the number of steps of the run, which may then not change on resume.
    pub ramp: bool,
    /// Default mu of the safeguard, unless the family has its own.
    pub safeguard_mu: f64,
    /// The method trains on trajectories that the policy samples, not on items.
    pub rollouts: Option<Rollouts>,
    /// The method trains on the policy's own predictions after a few steps of denoising (self_npo).
    pub truncated: Option<Truncation>,
    /// lambda(t) of `timesteps.weighting` applies: the method has a logit or an implicit reward.
    pub timestep_weighting: bool,
    /// `None`: the method has no beta.
    pub beta: Option<BetaRule>,
    /// Probability of the empty prompt, in [0, 1].
    pub prompt_dropout: f64,
    /// Space of margins and metrics.
    pub error: ErrorSpace,
    /// Images of an item that share their noise.
    pub noise: NoiseRule,
    /// Probability that a position is a desirable image; `None`: one order over all items.
    pub desirable_share: Option<f64>,
}

impl Needs {
    /// Pairs, both trained, compared with a reference.
    pub const PAIRS: Self = Self {
        items: ItemKind::Pairs,
        reference: true,
        loser: true,
        ties: false,
        swapped: false,
        scores: None,
        inversion: None,
        drift: false,
        statistic: None,
        whole_step: None,
        prompts: false,
        one_class: false,
        undesirable_requires: None,
        weights: false,
        data_weights: false,
        ramp: false,
        safeguard_mu: 0.9,
        rollouts: None,
        truncated: None,
        timestep_weighting: true,
        beta: None,
        prompt_dropout: 0.0,
        error: ErrorSpace::Epsilon,
        noise: NoiseRule::Shared,
        desirable_share: None,
    };

    /// Pairs without a beta.
    pub fn offline(offline: Offline) -> Self {
        Self { prompt_dropout: offline.prompt_dropout, error: offline.error, ..Self::PAIRS }
    }

    /// Pairs, both trained, compared with a reference.
    pub fn pairs(beta: BetaRule, offline: Offline) -> Self {
        Self { beta: Some(beta), ..Self::offline(offline) }
    }

    /// Ranked lists, compared with a reference.
    pub fn lists(beta: BetaRule, shared_noise: bool, offline: Offline) -> Self {
        let noise = if shared_noise { NoiseRule::Shared } else { NoiseRule::PerImage };
        Self { items: ItemKind::Lists, noise, ..Self::pairs(beta, offline) }
    }

    /// Labelled images, compared with a reference.
    pub fn labels(beta: BetaRule, offline: Offline) -> Self {
        Self { items: ItemKind::Labels, ..Self::pairs(beta, offline) }
    }

    /// The policy's own trajectories.
    pub fn sampling(rollouts: Rollouts) -> Self {
        let reference = rollouts.reference();
        Self { rollouts: Some(rollouts), reference, loser: false, timestep_weighting: false, ..Self::PAIRS }
    }

    /// The scorer of the rows' scores.
    pub fn scorer(&self) -> Option<&str> {
        self.scores.as_ref()?.scorer.as_deref()
    }
}
