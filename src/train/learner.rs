//! From a resolved configuration to what a step works with.

use super::feed::Feed;
use super::guards::{Beta, SpikeGuard};
use super::optimizer::{Ema, Optimizer};
use super::session::Opened;
use super::step::{Learner, OwnWeights, Statistics};
use crate::data::draws::Draws;
use crate::data::items::{Item, Preference};
use crate::networks::{self, Inverting, Machine, Start, Truncating};
use crate::objectives::{Entry, Needs, Objective, timestep_weight};
use crate::settings::{Config, SafeguardName, TimestepWeighting};
use anyhow::Result;
use pipelines::families::Family;
use pipelines::schedulers::NoiseSchedule;
use tch::{Kind, Tensor};
use toml::Value;

/// Loads the networks and puts the method together.
///
/// # Errors
/// What the model's files or the machine refuse.
pub fn build(opened: &Opened, machine: Machine, entry: &Entry, feed: &Feed) -> Result<Learner> {
    let Opened { config, folder, .. } = opened;
    let needs = entry.needs;
    let networks = networks::load(config, folder, machine, needs.reference)?;
    let objective = (entry.build)(&config.method);
    let own_weights = own_weights(config, &objective, &opened.items.train);
    let data_weights = config.weights.of_data().is_some();
    Ok(Learner {
        native_errors: config.method.get("error").and_then(Value::as_str) == Some("native"),
        timestep_weights: timestep_weights(config, &networks.policy.denoiser.schedule, machine),
        inverting: inverting(config, needs, networks.policy.denoiser.schedule.num_train_timesteps()),
        truncating: truncating(config, needs, feed)?,
        safeguard: config.safeguard.as_ref().filter(|s| s.name == SafeguardName::Sdpo).map(|s| s.mu),
        weighted: data_weights || needs.weights || needs.data_weights,
        own_weights,
        statistics: Statistics::default(),
        optimizer: Optimizer::new(&networks.policy.trainable, &config.optim),
        ema: Ema::new(&networks.policy.trainable, ema_decay(config, needs)),
        beta: beta(config, entry, folder.family()),
        has_beta: entry.keys.iter().any(|key| key.name == "beta"),
        guard: SpikeGuard::default(),
        on_spike: config.train.on_spike,
        grad_accum: config.train.grad_accum,
        steps: config.train.steps,
        needs,
        objective,
        networks,
    })
}

/// Truncated rollouts are made by an average that the method has anyway.
fn ema_decay(config: &Config, needs: Needs) -> f64 {
    let of_method = config.method.get("ema_decay").and_then(Value::as_float);
    of_method.filter(|_| needs.truncated).unwrap_or(config.ema.decay)
}

/// How a method truncates its rollouts.
fn truncating(config: &Config, needs: Needs, feed: &Feed) -> Result<Option<Truncating>> {
    if !needs.truncated {
        return Ok(None);
    }
    Ok(Some(Truncating {
        start: match config.method.get("start").and_then(Value::as_str) {
            Some("noise") => Start::Noise,
            _ => Start::Data,
        },
        steps: config.method.get("rollout_steps").and_then(Value::as_integer).unwrap_or(0).max(0) as usize,
        guidance: config.method.get("guidance").and_then(Value::as_float).unwrap_or(-1.0),
        draws: Draws { seed: config.train.seed, draws_per_pair: 0, total_timesteps: feed.total_timesteps() },
        empty: feed.conditioning("")?,
    }))
}

fn beta(config: &Config, entry: &Entry, family: Family) -> Beta {
    let key = || entry.keys.iter().find(|k| k.name == "beta");
    let default = || key().and_then(|k| k.default_for(family.default(entry.name, "beta"))).and_then(|v| v.as_float());
    match config.method.get("beta") {
        Some(v) if v.as_str() == Some("auto") => Beta::auto(default().unwrap_or(1.0)),
        Some(v) => Beta::fixed(v.as_float().unwrap_or(1.0)),
        None => Beta::fixed(1.0),
    }
}

/// lambda(t) of every timestep, `[T]`, master kind.
fn timestep_weights(config: &Config, schedule: &NoiseSchedule, machine: Machine) -> Option<Tensor> {
    (config.timesteps.weighting == TimestepWeighting::TimestepAware).then_some(())?;
    let abar = schedule.alphas_cumprod().to_device(tch::Device::Cpu).to_kind(Kind::Double);
    let abar: Vec<f64> = abar.iter::<f64>().map(Iterator::collect).unwrap_or_default();
    let lambda = Tensor::from_slice(&timestep_weight::lambda(&abar));
    Some(lambda.to_device(machine.device).to_kind(machine.master))
}

fn inverting(config: &Config, needs: Needs, total_timesteps: i64) -> Option<Inverting> {
    let draws = Draws { seed: config.train.seed, draws_per_pair: config.data.draws_per_pair as u64, total_timesteps };
    Some(Inverting {
        inverter: needs.inversion?,
        published: config.method.get("inversion").and_then(Value::as_str) == Some("published"),
        steps: config.method.get("inversion_steps").and_then(Value::as_integer).unwrap_or(1),
        eta: config.method.get("inversion_eta").and_then(Value::as_float).unwrap_or(0.0),
        draws,
    })
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
