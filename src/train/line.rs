//! The metrics line of a step.

use super::learner::StepOutcome;
use super::records::{peak_mem_gib, write_renewal};
use super::session::Session;
use crate::metrics::Line;
use crate::objectives::Other;

/// The metrics line of a step, without validation.
pub fn of_step(session: &mut Session, outcome: &StepOutcome, seconds: f64) -> Line {
    let train = &session.config.train;
    let criterion = session.learner.criterion();
    let trained = outcome.records.losses.len();
    let epoch = match &session.rollout {
        Some(rollout) => rollout.epoch(),
        None => (session.step * train.pairs_per_step()) as f64 / session.feed.train_len() as f64,
    };
    let mut line = Line {
        step: session.step,
        epoch: Some(epoch),
        lr: Some(outcome.lr),
        beta: criterion.has_beta.then_some(outcome.beta),
        grad_norm: (trained > 0).then_some(outcome.grad_norm),
        spike: outcome.spike,
        skipped: outcome.skipped,
        pairs_per_s: Some(trained as f64 / seconds),
        s_per_step: Some(seconds),
        data_wait_s: Some(session.feed.waited()),
        peak_mem_gib: peak_mem_gib(session.learner.networks().machine.device),
        ..Line::default()
    };
    outcome.records.write(&mut line, criterion.weighted, outcome.statistic, session.feed.range());
    write_renewal(&mut line, &outcome.renewal);
    if let Some(rollout) = &mut session.rollout {
        if let Some(sampled) = rollout.take_report() {
            sampled.write(&mut line);
            if rollout.course().needs.other == Other::Sampler {
                line.fresh_ratio_error = outcome.records.largest_ratio_error();
            }
        }
        line.network_evaluations = Some(rollout.state.evaluations);
    }
    line
}
