//! From errors to losses: the objective and the weights of its losses.

use super::forward::Forward;
use super::history::Statistics;
use super::partial::{Terms, Values};
use crate::networks::{Machine, Networks, Noised};
use crate::objectives::statistics::Law;
use crate::objectives::timestep_weight::TimestepWeight;
use crate::objectives::{
    Errors, Evaluation, Needs, Objective, Step, Weighting, evaluate_together, numbers, safeguard, statistic_values,
    weight_values,
};
use crate::world::{World, gathered};
use anyhow::Result;
use pipelines::Levels;
use tch::Tensor;

/// Conversion of errors into losses. Constant during a run.
pub struct Criterion {
    pub objective: Objective,
    pub needs: Needs,
    /// `error = "native"`: margins and metrics in the model's own parameterisation.
    pub native_errors: bool,
    /// lambda(t) of `timesteps.weighting`.
    pub timestep_weight: Option<TimestepWeight>,
    /// mu of the SDPO safeguard.
    pub safeguard: Option<f64>,
    /// Normalisation of the method's own loss weights.
    pub own_weights: OwnWeights,
    /// Some losses are weighted, by the data or by the method.
    pub weighted: bool,
    /// The method has a beta: metrics report it.
    pub has_beta: bool,
}

/// Divisor of a method's own weights (docs/methods.md, section 0.7).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OwnWeights {
    /// A constant known before training: their mean over the training set, or 1 as published.
    By(f64),
    /// Their running mean over the steps before.
    Running,
}

impl Criterion {
    /// `[R]`, type of the master weights: factor from squared residuals to those of margins and metrics.
    pub fn epsilon_factor(&self, networks: &Networks, noised: &Noised) -> Tensor {
        match self.native_errors {
            true => ones(networks.machine, &noised.levels),
            false => networks.epsilon_factor(noised),
        }
    }

    /// lambda(t), `[R]`, master kind.
    pub fn lambda(&self, networks: &Networks, levels: &Levels) -> Tensor {
        let Machine { master, device, .. } = networks.machine;
        match &self.timestep_weight {
            Some(weight) => {
                let noise_to_signal = networks.process().noise_to_signal(levels);
                weight.lambda(&noise_to_signal).to_device(device).to_kind(master)
            }
            None => ones(networks.machine, levels),
        }
    }

    /// Whether all errors of the step must be known before its first backward pass.
    pub fn looks_ahead(&self, statistics: &Statistics) -> bool {
        let statistic = self.needs.statistic.is_some_and(|s| s.law.looks_ahead(&statistics.statistic));
        let whole = self.needs.whole_step.is_some();
        whole || statistic || (self.has_running_weights() && Law::Before.looks_ahead(&statistics.weight))
    }

    fn has_running_weights(&self) -> bool {
        self.needs.weights && self.own_weights == OwnWeights::Running
    }

    /// Statistics read by the losses of a step. `seen`: all its errors on this rank, for a method that looks ahead.
    ///
    /// # Errors
    /// A rank that does not answer.
    pub fn terms(&self, step: Step, statistics: &Statistics, seen: &[Errors], world: &dyn World) -> Result<Terms> {
        let mut step = step;
        if let Some(statistic) = self.needs.statistic {
            let own: Vec<f64> = seen.iter().flat_map(|e| statistic_values(&self.objective, e, &step)).collect();
            step.statistic = statistics.statistic.of_step(statistic.law, &gathered(world, own)?.concat());
        }
        let mean = match self.own_weights {
            OwnWeights::By(mean) => mean,
            OwnWeights::Running if !self.needs.weights => 1.0,
            OwnWeights::Running => {
                let own: Vec<f64> = seen.iter().flat_map(|e| weight_values(&self.objective, e, &step)).collect();
                statistics.weight.of_step(Law::Before, &gathered(world, own)?.concat())
            }
        };
        // A step with all weights 0 has no divisor.
        Ok(Terms { step, weighting: Weighting::Divided(if mean > 0.0 { mean } else { 1.0 }) })
    }

    /// Losses and derivatives of micro-batches that are a step of this rank; empty for a loss that reads its items alone.
    ///
    /// # Errors
    /// When libtorch refuses the backward pass.
    pub fn together(&self, seen: &[Errors], terms: &Terms) -> Result<Vec<Evaluation>> {
        match self.needs.whole_step {
            Some(_) => Ok(evaluate_together(&self.objective, seen, &terms.step, terms.weighting)?),
            None => Ok(Vec::new()),
        }
    }

    /// Values behind the statistics of later steps.
    pub fn values(&self, errors: &Errors, step: &Step) -> Values {
        let statistic = match self.needs.statistic.is_some_and(|s| s.law != Law::Step) {
            true => statistic_values(&self.objective, errors, step),
            false => Vec::new(),
        };
        let weight = match self.has_running_weights() {
            true => weight_values(&self.objective, errors, step),
            false => Vec::new(),
        };
        Values { statistic, weight, divergence: Vec::new() }
    }

    /// Adds the values of a step that was not skipped.
    pub fn observe(&self, values: &Values, statistics: &mut Statistics) {
        if let Some(statistic) = self.needs.statistic.filter(|s| s.law != Law::Step) {
            statistics.statistic.observe(statistic.law, &values.statistic);
        }
        if self.has_running_weights() {
            statistics.weight.observe(Law::Before, &values.weight);
        }
    }

    /// Scales the losers' derivatives by the safeguard's lam, and returns it.
    pub fn protect_winners(&self, forward: &Forward, evaluation: &mut Evaluation) -> Vec<f64> {
        let (Some(mu), Some(product)) = (self.safeguard, &forward.product) else { return Vec::new() };
        let errors = &forward.errors;
        let (Some(factor), Some(theta_w)) =
            (errors.image(&errors.epsilon_factor, 0), errors.image(&errors.epsilon_theta(), 0))
        else {
            return Vec::new();
        };
        let lam = safeguard::lam(mu, &theta_w, &(product * factor), forward.numel);
        let rows: Vec<i64> = errors.items.iter().filter_map(|item| item.rows.get(1).copied()).collect();
        let rows = Tensor::from_slice(&rows).to_device(lam.device());
        let scaled = evaluation.d_theta.index_select(0, &rows) * &lam;
        evaluation.d_theta = evaluation.d_theta.index_copy(0, &rows, &scaled);
        numbers(&lam)
    }
}

fn ones(machine: Machine, levels: &Levels) -> Tensor {
    Tensor::ones([levels.rows()], (machine.master, machine.device))
}
