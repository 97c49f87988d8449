//! Held-out pairs at fixed draws: the one curve that tells whether a run learns. Always against the start model and
//! with plain noise, for every method, so that methods can be compared.

use super::metrics::{mean, numbers, put, wins};
use super::step::{Halted, Learner, pair_errors};
use crate::data::batches::PairBatch;
use crate::objectives::StepContext;
use crate::progress::{Progress, Stop};
use anyhow::{Result, bail};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tch::Tensor;

/// One validation pair with all its draws: rows 0..draws the winner, draws..2 draws the loser.
pub struct ValidationPair {
    pub prompt: String,
    pub batch: PairBatch,
}

/// Errors of the start model, pair by pair, `[2 draws]` in the network's own parameterisation: computed once.
pub type StartErrors = Vec<Vec<f64>>;

/// What one pair says.
struct Outcome {
    prompt: String,
    h: f64,
    gap_w: f64,
    gap_l: f64,
    /// One loss a draw.
    losses: Vec<f64>,
}

/// Errors of the start model on the validation pairs. To be called before step 1.
pub fn start_errors(
    learner: &Learner,
    pairs: &mut dyn Iterator<Item = Result<ValidationPair>>,
    stop: &Stop,
) -> Result<StartErrors> {
    let mut out = Vec::new();
    for pair in pairs {
        let pair = pair?;
        let noised = learner.noise(&pair.batch);
        let _frozen = tch::no_grad_guard();
        let errors = match learner.reference.errors(&learner.policy, &noised)? {
            Some(errors) => errors,
            // Without a reference the policy itself is the start model: nothing has been trained yet.
            None => noised.errors(&learner.policy.denoiser, learner.policy.adapters)?,
        };
        let errors = numbers(&errors)?;
        refuse_not_finite("e_ref", "start model", &pair.batch, &errors)?;
        out.push(errors);
        stop.check()?;
    }
    Ok(out)
}

/// Validates the weights in place (the caller has swapped in the EMA) and returns the val_* keys.
pub fn validate(
    learner: &Learner,
    pairs: &mut dyn Iterator<Item = Result<ValidationPair>>,
    start: &StartErrors,
    beta: f64,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Map<String, Value>> {
    let mut outcomes = Vec::new();
    for (i, pair) in pairs.enumerate() {
        let Some(start) = start.get(i) else { break };
        outcomes.push(outcome(learner, &pair?, start, beta)?);
        progress.advance(i as u64 + 1, "");
        stop.check()?;
    }
    Ok(summarise(&outcomes))
}

fn outcome(learner: &Learner, pair: &ValidationPair, start: &[f64], beta: f64) -> Result<Outcome> {
    let _frozen = tch::no_grad_guard();
    let noised = learner.noise(&pair.batch);
    let draws = start.len() as i64 / 2;
    let theta = noised.errors(&learner.policy.denoiser, learner.policy.adapters)?;
    refuse_not_finite("e_theta", "trained model", &pair.batch, &numbers(&theta)?)?;
    let start = Tensor::from_slice(start).to_kind(theta.kind()).to_device(theta.device());
    let factor = learner.epsilon_factor(&noised.timesteps.narrow(0, 0, draws));
    let errors = pair_errors(&theta, Some(&start), draws, true, factor.shallow_clone());
    let losses = numbers(&learner.objective.losses(&errors, &StepContext { beta }))?;
    let gap = numbers(&((theta - start) * Tensor::cat(&[&factor, &factor], 0)))?;
    let (gap_w, gap_l) = gap.split_at(draws as usize);
    let (gap_w, gap_l) = (mean(gap_w).unwrap_or(0.0), mean(gap_l).unwrap_or(0.0));
    Ok(Outcome { prompt: pair.prompt.clone(), h: gap_l - gap_w, gap_w, gap_l, losses })
}

/// Held-out pairs are measured after the weights moved: the checkpoint before is the way back.
fn refuse_not_finite(name: &str, model: &str, batch: &PairBatch, errors: &[f64]) -> Result<()> {
    let Some(row) = errors.iter().position(|e| !e.is_finite()) else { return Ok(()) };
    let draws = batch.ids.len();
    let side = if row < draws { "w" } else { "l" };
    let timestep = batch.timesteps.int64_value(&[row as i64]);
    bail!(Halted::too_late(format!(
        "{name}({side}) of the held-out pair {} at timestep {timestep} is {} with the {model}. Look at the pair, or start another run with a lower optim.lr or in float32.",
        batch.ids[row % draws],
        errors[row]
    )))
}

fn summarise(outcomes: &[Outcome]) -> Map<String, Value> {
    let column = |f: &dyn Fn(&Outcome) -> f64| mean(&outcomes.iter().map(f).collect::<Vec<_>>());
    let losses: Vec<f64> = outcomes.iter().flat_map(|o| o.losses.iter().copied()).collect();
    let mut out = Map::new();
    put(&mut out, "val_loss", mean(&losses));
    put(&mut out, "val_implicit_acc", column(&|o| wins(o.h)));
    put(&mut out, "val_margin", column(&|o| o.h));
    if let Some((low, high)) = interval(outcomes) {
        put(&mut out, "val_margin_lo", Some(low));
        put(&mut out, "val_margin_hi", Some(high));
    }
    put(&mut out, "val_gap_w", column(&|o| o.gap_w));
    put(&mut out, "val_gap_l", column(&|o| o.gap_l));
    out
}

/// 95 % over prompts: mean of the prompt means +- 1.96 std (n - 1) / sqrt(prompts); `None` with one prompt.
fn interval(outcomes: &[Outcome]) -> Option<(f64, f64)> {
    let mut by_prompt: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for o in outcomes {
        by_prompt.entry(&o.prompt).or_default().push(o.h);
    }
    let means: Vec<f64> = by_prompt.values().filter_map(|h| mean(h)).collect();
    let n = means.len() as f64;
    if means.len() < 2 {
        return None;
    }
    let centre = mean(&means)?;
    let variance = means.iter().map(|m| (m - centre).powi(2)).sum::<f64>() / (n - 1.0);
    let half = 1.96 * (variance / n).sqrt();
    Some((centre - half, centre + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(prompt: &str, h: f64) -> Outcome {
        Outcome { prompt: prompt.into(), h, gap_w: 0.0, gap_l: h, losses: vec![0.5, 0.7] }
    }

    #[test]
    fn the_interval_runs_over_prompts_and_is_absent_with_one() {
        let two = [outcome("a", 1.0), outcome("a", 3.0), outcome("b", 4.0)];
        let m = summarise(&two);
        assert!((m["val_margin"].as_f64().unwrap() - 8.0 / 3.0).abs() < 1e-12);
        // prompt means 2 and 4: std sqrt(2), half 1.96
        assert!((m["val_margin_lo"].as_f64().unwrap() - (3.0 - 1.96)).abs() < 1e-12);
        assert!(!summarise(&[outcome("a", 1.0)]).contains_key("val_margin_lo"));
        assert!((m["val_loss"].as_f64().unwrap() - 0.6).abs() < 1e-12);
    }
}
