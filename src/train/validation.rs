//! Held-out items at fixed draws: the curve that shows whether a run learns. Always against the start model and with
//! plain noise, for every method, so that methods are comparable.

use super::feed::ValidationItem;
use super::history::Statistics;
use super::pass::{Latents, Pass};
use crate::data::batches::{Batch, BatchItem};
use crate::data::items::Preference;
use crate::metrics::{Line, gradient_factor, wins};
use crate::networks::{Networks, mean_square};
use crate::numbers::{interval, mean};
use crate::objectives::statistics::Law;
use crate::objectives::{Errors, Step, Weighting, descending, evaluate, evaluate_together, numbers, statistic_values};
use crate::progress::{Halted, Progress, Stop};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use tch::Tensor;

/// Errors of the start model, item by item, one per row of its batch, in the network's own parameterisation: computed
/// once.
pub type StartErrors = Vec<Vec<f64>>;

/// Margins of one item; none for labelled images.
struct Outcome {
    prompt: String,
    h: f64,
    gap_w: f64,
    gap_l: f64,
}

/// Errors of the start model on the validation items, computed before step 1.
pub fn start_errors(
    networks: &Networks,
    items: &mut dyn Iterator<Item = Result<ValidationItem>>,
    stop: &Stop,
) -> Result<StartErrors> {
    let mut out = Vec::new();
    for item in items {
        let item = item?;
        let noised = networks.noise(&item.batch);
        let _frozen = tch::no_grad_guard();
        let errors = match networks.held_out_errors(&item.batch, &noised, false)? {
            Some(start) => start.errors,
            // Without a reference the policy itself is the start model before training.
            None => mean_square(&networks.residuals(&noised)?),
        };
        let errors = numbers(&errors);
        refuse_not_finite("e_ref", "start model", &item.batch, &errors)?;
        out.push(errors);
        stop.check()?;
    }
    Ok(out)
}

/// Numbers of the held-out items of a validated step.
#[derive(Debug, Default, PartialEq)]
pub struct HeldOut {
    loss: Option<f64>,
    implicit_acc: Option<f64>,
    margin: Option<f64>,
    /// 95 % interval of the margin over prompts; `None` with one prompt.
    interval: Option<(f64, f64)>,
    gap_w: Option<f64>,
    gap_l: Option<f64>,
    gradient_factor: Option<f64>,
}

impl HeldOut {
    /// Sets the val_ keys.
    pub fn write(self, line: &mut Line) {
        line.val_loss = self.loss;
        line.val_implicit_acc = self.implicit_acc;
        line.val_margin = self.margin;
        (line.val_margin_lo, line.val_margin_hi) = self.interval.unzip();
        (line.val_gap_w, line.val_gap_l) = (self.gap_w, self.gap_l);
        line.val_gradient_factor = self.gradient_factor;
    }
}

/// Validates the current weights (the caller has swapped in the EMA). `step`: the last step's input of the objective.
///
/// # Errors
/// [`Halted`] for an error that is not finite; `Stopped`; errors of networks or data.
pub fn validate(
    pass: &Pass,
    statistics: &Statistics,
    items: &mut dyn Iterator<Item = Result<ValidationItem>>,
    start: &StartErrors,
    step: Step,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<HeldOut> {
    let _frozen = tch::no_grad_guard();
    let (mut outcomes, mut all_errors) = (Vec::new(), Vec::new());
    for (i, item) in items.enumerate() {
        let Some(start) = start.get(i) else { break };
        let item = item?;
        let errors = errors(pass, &item, start)?;
        outcomes.extend(outcome(&item, &errors));
        all_errors.push(errors);
        progress.advance(i as u64 + 1, "");
        stop.check()?;
    }
    let (losses, factors) = losses(pass, statistics, &all_errors, step)?;
    Ok(HeldOut { loss: mean(&losses), gradient_factor: mean(&factors), ..summarise(&outcomes) })
}

/// Errors of the current weights against those of the start model.
fn errors(pass: &Pass, item: &ValidationItem, start: &[f64]) -> Result<Errors> {
    let noised = pass.networks.noise(&item.batch);
    let residuals = pass.networks.residuals(&noised)?;
    let start_residuals = match pass.criterion.needs.drift {
        true => pass.networks.held_out_errors(&item.batch, &noised, true)?.and_then(|measured| measured.residuals),
        false => None,
    };
    let start = Tensor::from_slice(start).to_kind(residuals.kind()).to_device(residuals.device());
    let errors = pass.summarise(&item.batch, &noised, &residuals, start_residuals.as_ref(), Some(start))?.errors;
    refuse_not_finite("e_theta", "trained model", &item.batch, &numbers(&errors.theta))?;
    Ok(errors)
}

/// The loss of every item and draw, without weights, and the gradient factors of their logits.
fn losses(pass: &Pass, statistics: &Statistics, all: &[Errors], step: Step) -> Result<(Vec<f64>, Vec<f64>)> {
    if matches!(pass.latents, Latents::Truncated(_)) {
        return Ok(Default::default()); // without a loss of errors
    }
    let mut step = step;
    if let Some(statistic) = pass.criterion.needs.statistic {
        // Over all validated items, or as left by the step.
        let values: Vec<f64> = match statistic.law {
            Law::Step => all.iter().flat_map(|e| statistic_values(&pass.criterion.objective, e, &step)).collect(),
            Law::AllSteps | Law::Before | Law::Learned { .. } => Vec::new(),
        };
        step.statistic = statistics.statistic.of_step(statistic.law, &values);
    }
    let (mut losses, mut factors) = (Vec::new(), Vec::new());
    let objective = &pass.criterion.objective;
    let evaluations = match pass.criterion.needs.whole_step {
        Some(_) => evaluate_together(objective, all, &step, Weighting::Off)?,
        None => all.iter().map(|e| evaluate(objective, e, &step, Weighting::Off)).collect::<Result<_, _>>()?,
    };
    for evaluation in evaluations {
        losses.extend(evaluation.losses.iter().map(|l| l.loss));
        // Without a reference of its own a method has no logit: here it is compared with the start model.
        let preferred = evaluation.compared.iter().filter(|c| pass.criterion.needs.reference && !c.tie);
        factors.extend(preferred.filter_map(|c| c.u).map(gradient_factor));
    }
    Ok((losses, factors))
}

/// Means over the draws of an item: of a pair, or of the best image of a list against the worst.
fn outcome(item: &ValidationItem, errors: &Errors) -> Option<Outcome> {
    let theta = numbers(&errors.epsilon_theta());
    let start = numbers(&errors.epsilon_reference()?);
    let gap = |row: i64| theta[row as usize] - start[row as usize];
    let ends: Option<Vec<(i64, i64)>> = item.batch.items.iter().map(best_and_worst).collect();
    let (w, l): (Vec<f64>, Vec<f64>) = ends?.into_iter().map(|(w, l)| (gap(w), gap(l))).unzip();
    let (gap_w, gap_l) = (mean(&w)?, mean(&l)?);
    Some(Outcome { prompt: item.prompt.clone(), h: gap_l - gap_w, gap_w, gap_l })
}

/// Rows of the preferred image and of the compared one; `None` for a tie.
fn best_and_worst(item: &BatchItem) -> Option<(i64, i64)> {
    let row = |k: usize| item.rows.get(k).copied();
    match &item.preference {
        Preference::Pair { tie: false } => row(0).zip(row(1)),
        Preference::List { phi } => {
            let order = descending(phi);
            let (best, worst) = (*order.first()?, *order.last()?);
            (phi[best] > phi[worst]).then(|| row(best).zip(row(worst)))?
        }
        Preference::Pair { tie: true } | Preference::Label { .. } => None,
    }
}

/// Held-out items are measured after the update: the checkpoint before is the one to continue from.
fn refuse_not_finite(name: &str, model: &str, batch: &Batch, errors: &[f64]) -> Result<()> {
    let Some(row) = errors.iter().position(|e| !e.is_finite()) else { return Ok(()) };
    let holds = |item: &&BatchItem| item.rows.contains(&(row as i64));
    let (what, k) = match batch.items.iter().find(holds) {
        Some(item) => {
            let k = item.rows.iter().position(|r| *r == row as i64).unwrap_or(0);
            (format!("{} {}", item.preference.noun(), item.id), k)
        }
        None => ("item".into(), 0),
    };
    let level = batch.levels.values()[row];
    let side = if k == 0 { "w" } else { "l" };
    bail!(Halted::too_late(format!(
        "{name}({side}) of the held-out {what} at timestep {level} is {} with the {model}. Look at the item, or start another run with a lower optim.lr or in float32.",
        errors[row]
    )))
}

fn summarise(outcomes: &[Outcome]) -> HeldOut {
    let column = |f: &dyn Fn(&Outcome) -> f64| mean(outcomes.iter().map(f));
    HeldOut {
        loss: None,
        gradient_factor: None,
        implicit_acc: column(&|o| wins(o.h)),
        margin: column(&|o| o.h),
        interval: interval(&by_prompt(outcomes)),
        gap_w: column(&|o| o.gap_w),
        gap_l: column(&|o| o.gap_l),
    }
}

/// The mean margin of every prompt.
fn by_prompt(outcomes: &[Outcome]) -> Vec<f64> {
    let mut by_prompt: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for o in outcomes {
        by_prompt.entry(&o.prompt).or_default().push(o.h);
    }
    by_prompt.values().filter_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(prompt: &str, h: f64) -> Outcome {
        Outcome { prompt: prompt.into(), h, gap_w: 0.0, gap_l: h }
    }

    #[test]
    fn the_interval_runs_over_prompts_and_is_absent_with_one() {
        let two = [outcome("a", 1.0), outcome("a", 3.0), outcome("b", 4.0)];
        let m = summarise(&two);
        assert!((m.margin.unwrap() - 8.0 / 3.0).abs() < 1e-12);
        // prompt means 2 and 4: std sqrt(2), half 1.96
        assert!((m.interval.unwrap().0 - (3.0 - 1.96)).abs() < 1e-12);
        assert_eq!(summarise(&[outcome("a", 1.0)]).interval, None);
    }
}
