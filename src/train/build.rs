//! From resolved settings to the state of training.

use super::criterion::{Criterion, OwnWeights};
use super::environment::Contents;
use super::feed::Feed;
use super::guards::{Beta, SpikeGuard};
use super::history::{History, Statistics};
use super::learner::{Learner, Limits};
use super::ledger::RunLedger;
use super::opened::Opened;
use super::pass::Latents;
use super::resident::Resident;
use crate::data::draws::Draws;
use crate::data::items::{Item, Preference};
use crate::networks::{Inverting, Machine, Networks, Truncating};
use crate::objectives::timestep_weight::TimestepWeight;
use crate::objectives::{BetaRule, ErrorSpace, Inversion, InversionGrid, Needs, Objective, Truncation};
use crate::optimizer::{Ema, Optimizer};
use crate::rollout::Prompts;
use crate::settings::{PairSplit, Settings, TimestepWeighting};
use anyhow::Result;
use pipelines::{LevelRange, Levels, Process};

/// Loads the networks and constructs the method. `contents`: hashes of the inputs. `ledger`: stored errors of the
/// reference.
///
/// # Errors
/// Errors of the model's files or the machine.
pub fn learner(
    resident: &mut Resident,
    opened: &Opened,
    contents: &Contents,
    machine: Machine,
    feed: &Feed,
    ledger: Option<&RunLedger>,
) -> Result<Learner> {
    let Opened { config, folder, .. } = opened;
    let needs = &config.method.needs;
    // A filled ledger has all errors of the run.
    let needs_network = needs.reference && !opened.ledger_first;
    let mut networks = resident.networks(config, folder, contents, machine, needs_network)?;
    if let Some(ledger) = ledger {
        ledger.attach(&mut networks);
    }
    let trainable = &networks.policy.trainable;
    let optimizer = Optimizer::new(trainable, &config.optim);
    let decay = needs.truncated.map_or(config.ema.decay, |truncated| truncated.ema_decay);
    let ema = Ema::new(trainable, decay);
    let history = History {
        beta: match needs.beta {
            Some(BetaRule::Auto { from }) => Beta::auto(from),
            Some(BetaRule::Fixed(beta)) => Beta::fixed(beta),
            None => Beta::fixed(1.0),
        },
        guard: SpikeGuard::default(),
        statistics: Statistics::default(),
    };
    let limits = Limits {
        on_spike: config.train.on_spike,
        grad_accum: config.train.grad_accum,
        steps: config.train.steps,
        split: config.train.pair_split.given() == Some(PairSplit::On),
    };
    let criterion = criterion(opened, &networks)?;
    let latents = match (inverting(config, needs, feed.range()), truncating(config, needs, feed)?) {
        (Some(inverting), _) => Latents::Inverted(inverting),
        (None, Some(truncating)) => Latents::Truncated(truncating),
        (None, None) => Latents::Noised,
    };
    Ok(Learner::new(networks, criterion, latents, optimizer, ema, history, limits))
}

fn criterion(opened: &Opened, networks: &Networks) -> Result<Criterion> {
    let config = &opened.config;
    let needs = config.method.needs.clone();
    let objective = config.method.objective()?;
    let own_weights = own_weights(config, &objective, &opened.items.train);
    Ok(Criterion {
        native_errors: needs.error == ErrorSpace::Native,
        timestep_weight: timestep_weight(config, networks.process()),
        safeguard: config.safeguard.as_ref().map(|safeguard| safeguard.mu),
        weighted: config.weighting().is_some() || needs.weights || needs.data_weights,
        own_weights,
        has_beta: needs.beta.is_some(),
        needs,
        objective,
    })
}

/// Truncation of a method's rollouts.
fn truncating(config: &Settings, needs: &Needs, feed: &Feed) -> Result<Option<Truncating>> {
    let Some(Truncation { start, steps, guidance, .. }) = needs.truncated else { return Ok(None) };
    let draws = Draws { seed: config.train.seed, draws_per_pair: 0, range: feed.range() };
    Ok(Some(Truncating { start, steps, guidance, draws, empty: feed.conditioning(&[""])? }))
}

fn timestep_weight(config: &Settings, process: &dyn Process) -> Option<TimestepWeight> {
    let all = || TimestepWeight::of(&process.noise_to_signal(&Levels::new(&process.range().all())));
    (config.timesteps.as_ref()?.weighting == TimestepWeighting::TimestepAware).then(all)
}

fn inverting(config: &Settings, needs: &Needs, range: LevelRange) -> Option<Inverting> {
    let draws = Draws { seed: config.train.seed, draws_per_pair: config.data.draws_per_pair(), range };
    let Inversion { inverter, grid, steps, eta } = needs.inversion?;
    Some(Inverting { inverter, published: grid == InversionGrid::Published, steps, eta, draws })
}

/// Weights from the data are normalised by the training set, weights from the networks by a running mean.
fn own_weights(config: &Settings, objective: &Objective, train: &[Item]) -> OwnWeights {
    let as_published = config.weights.as_ref().is_some_and(|weights| weights.as_published);
    let from_data = match objective {
        Objective::Lists(method) => {
            let weights = |item: &Item| match &item.preference {
                Preference::List { phi } => method.data_weights(phi),
                Preference::Pair { .. } | Preference::Label { .. } => None,
            };
            let weights: Option<Vec<Vec<f64>>> = train.iter().map(weights).collect();
            weights.map(|w| w.concat())
        }
        Objective::Pairs(_) | Objective::Labels(_) | Objective::Steps(_) | Objective::Residuals(_) => None,
    };
    match from_data {
        Some(weights) if !as_published && !weights.is_empty() => {
            OwnWeights::By(weights.iter().sum::<f64>() / weights.len() as f64)
        }
        None if !as_published => OwnWeights::Running,
        _ => OwnWeights::By(1.0),
    }
}
