//! From a resolved configuration to what a step works with.

use super::feed::Feed;
use super::guards::{Beta, SpikeGuard};
use super::optimizer::{Ema, Optimizer};
use super::session::Opened;
use super::step::{Learner, OwnWeights, Statistics};
use crate::data::draws::Draws;
use crate::data::items::{Item, Preference};
use crate::networks::{self, Inverting, Machine, Truncating};
use crate::objectives::timestep_weight::TimestepWeight;
use crate::objectives::{BetaRule, ErrorSpace, Inversion, InversionGrid, Needs, Objective, Truncation};
use crate::settings::{Config, SafeguardName, TimestepWeighting};
use anyhow::Result;
use pipelines::{LevelRange, Levels, Process};

/// Loads the networks and puts the method together.
///
/// # Errors
/// What the model's files or the machine refuse.
pub fn build(opened: &Opened, machine: Machine, feed: &Feed) -> Result<Learner> {
    let Opened { config, folder, .. } = opened;
    let needs = config.method.needs.clone();
    let networks = networks::load(config, folder, machine, needs.reference)?;
    let objective = config.method.objective()?;
    let own_weights = own_weights(config, &objective, &opened.items.train);
    let data_weights = config.weights.of_data().is_some();
    Ok(Learner {
        native_errors: needs.error == ErrorSpace::Native,
        timestep_weight: timestep_weight(config, &*networks.policy.denoiser.process),
        inverting: inverting(config, &needs, networks.policy.denoiser.process.range()),
        truncating: truncating(config, &needs, feed)?,
        safeguard: config.safeguard.as_ref().filter(|s| s.name == SafeguardName::Sdpo).map(|s| s.mu),
        weighted: data_weights || needs.weights || needs.data_weights,
        own_weights,
        statistics: Statistics::default(),
        optimizer: Optimizer::new(&networks.policy.trainable, &config.optim),
        ema: Ema::new(
            &networks.policy.trainable,
            needs.truncated.map_or(config.ema.decay, |truncated| truncated.ema_decay),
        ),
        beta: match needs.beta {
            Some(BetaRule::Auto { from }) => Beta::auto(from),
            Some(BetaRule::Fixed(beta)) => Beta::fixed(beta),
            None => Beta::fixed(1.0),
        },
        has_beta: needs.beta.is_some(),
        guard: SpikeGuard::default(),
        on_spike: config.train.on_spike,
        grad_accum: config.train.grad_accum,
        steps: config.train.steps,
        needs,
        objective,
        networks,
    })
}

/// How a method truncates its rollouts.
fn truncating(config: &Config, needs: &Needs, feed: &Feed) -> Result<Option<Truncating>> {
    let Some(Truncation { start, steps, guidance, .. }) = needs.truncated else { return Ok(None) };
    let draws = Draws { seed: config.train.seed, draws_per_pair: 0, range: feed.range() };
    Ok(Some(Truncating { start, steps, guidance, draws, empty: feed.conditioning("")? }))
}

fn timestep_weight(config: &Config, process: &dyn Process) -> Option<TimestepWeight> {
    let all = || TimestepWeight::of(&process.noise_to_signal(&Levels::new(&process.range().all())));
    (config.timesteps.weighting == TimestepWeighting::TimestepAware).then(all)
}

fn inverting(config: &Config, needs: &Needs, range: LevelRange) -> Option<Inverting> {
    let draws = Draws { seed: config.train.seed, draws_per_pair: config.data.draws_per_pair as u64, range };
    let Inversion { inverter, grid, steps, eta } = needs.inversion?;
    Some(Inverting { inverter, published: grid == InversionGrid::Published, steps, eta, draws })
}

/// Weights that follow from the data are normalised by the training set, those that follow from the networks as they go.
fn own_weights(config: &Config, objective: &Objective, train: &[Item]) -> OwnWeights {
    let as_published = config.weights.as_published;
    let from_data = match objective {
        Objective::Lists(method) => {
            let weights = |item: &Item| match &item.preference {
                Preference::List { phi } => method.data_weights(phi),
                _ => None,
            };
            let weights: Option<Vec<Vec<f64>>> = train.iter().map(weights).collect();
            weights.map(|w| w.concat())
        }
        _ => None,
    };
    match from_data {
        Some(weights) if !as_published && !weights.is_empty() => {
            OwnWeights::By(weights.iter().sum::<f64>() / weights.len() as f64)
        }
        None if !as_published => OwnWeights::Running,
        _ => OwnWeights::By(1.0),
    }
}
