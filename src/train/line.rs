//! The metrics line of a step.

use super::learner::StepOutcome;
use super::records::{peak_mem_gib, write_renewal};
use super::session::Session;
use crate::metrics::put;
use serde_json::{Map, Value, json};

/// The metrics line of a step, without validation.
pub fn of_step(session: &mut Session, outcome: &StepOutcome, seconds: f64) -> Map<String, Value> {
    let train = &session.config.train;
    let criterion = session.learner.criterion();
    let mut line = Map::new();
    line.insert("step".into(), json!(session.step));
    let epoch = match &session.rollout {
        Some(rollout) => rollout.epoch(),
        None => (session.step * train.pairs_per_step()) as f64 / session.feed.train_len() as f64,
    };
    put(&mut line, "epoch", Some(epoch));
    put(&mut line, "lr", Some(outcome.lr));
    outcome.records.write(&mut line, criterion.weighted, outcome.statistic, session.feed.range());
    write_renewal(&mut line, &outcome.renewal);
    if criterion.has_beta {
        put(&mut line, "beta", Some(outcome.beta));
    }
    if let Some(rollout) = &mut session.rollout {
        line.extend(rollout.take_report());
        line.insert("network_evaluations".into(), json!(rollout.state.evaluations));
    }
    put(&mut line, "grad_norm", (!outcome.records.losses.is_empty()).then_some(outcome.grad_norm));
    for (key, present) in [("spike", outcome.spike), ("skipped", outcome.skipped)] {
        if present {
            line.insert(key.into(), json!(true));
        }
    }
    put(&mut line, "pairs_per_s", Some(outcome.records.losses.len() as f64 / seconds));
    put(&mut line, "s_per_step", Some(seconds));
    put(&mut line, "data_wait_s", Some(session.feed.waited()));
    put(&mut line, "peak_mem_gib", peak_mem_gib(session.learner.networks().machine.device));
    line
}
