//! Inputs of methods that sample while they train: log-ratios of transitions of their own trajectories, grouped into
//! units (docs/methods.md, sections 3 and 10).
//!
//! ```text
//! log p(x_p | x_t) = mean over C, H, W of [ -(x_p - mu)^2 / (2 sigma_t^2) - log sigma_t - log(2 pi) / 2 ]
//! r = log p_theta(x_p | x_t) - log p_other(x_p | x_t), or as the method's `StepRatio` says
//! ```

use super::{Objective, Step, numbers};
use tch::{Kind, TchError, Tensor};

/// The unit of a loss: a transition, a pair of them, or transitions of several trajectories of a prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unit {
    /// Name in messages.
    pub id: String,
    /// Rows of the ratios, by trajectory or candidate; the winner's first in a pair. A row drawn twice appears twice.
    pub members: Vec<Vec<i64>>,
    /// A of a single transition, not clipped.
    pub advantage: f64,
    /// Rewards, one per member, if members are ranked by them.
    pub scores: Vec<f64>,
}

/// Log-ratios of a micro-batch. Tensors are `[M]`, float64.
#[derive(Debug)]
pub struct Ratios {
    pub units: Vec<Unit>,
    /// r
    pub r: Tensor,
    /// Distance from the start model, as the method's `StepDrift` says.
    pub drift: Option<Tensor>,
}

impl Ratios {
    /// These log-ratios as leaves of a backward pass.
    fn as_leaves(&self) -> Self {
        let leaf = |t: &Tensor| t.detach().set_requires_grad(true);
        Self { units: self.units.clone(), r: leaf(&self.r), drift: self.drift.as_ref().map(leaf) }
    }

    /// One value per unit, `[n]`: `values` `[M]` of the only transition of member `k`.
    ///
    /// # Panics
    /// If a unit lacks this member: the rollout builds units as the method's needs declare.
    pub fn member(&self, values: &Tensor, k: usize) -> Tensor {
        values.index_select(0, &self.rows(k).to_device(values.device()))
    }

    /// Rows of the only transition of member `k`, `[n]` int64.
    ///
    /// # Panics
    /// As [`member`](Self::member).
    pub fn rows(&self, k: usize) -> Tensor {
        let rows: Vec<i64> = self.units.iter().map(|unit| unit.members[k][0]).collect();
        Tensor::from_slice(&rows).to_device(self.r.device())
    }

    /// Drift of the policy, `[M]`.
    ///
    /// # Panics
    /// If a method reads it without declaring it.
    pub fn drift(&self) -> &Tensor {
        self.drift.as_ref().unwrap_or_else(|| panic!("a method that reads the drift declares it in its needs"))
    }

    /// Advantages, `[n]`.
    pub fn advantages(&self) -> Tensor {
        let values: Vec<f64> = self.units.iter().map(|unit| unit.advantage).collect();
        Tensor::from_slice(&values).to_device(self.r.device())
    }

    /// Transitions of one member of one unit, `[n]`.
    pub fn of_member(&self, values: &Tensor, unit: &Unit, k: usize) -> Tensor {
        values.index_select(0, &Tensor::from_slice(&unit.members[k]).to_device(values.device()))
    }
}

/// A loss of units of transitions.
pub trait StepLoss {
    /// `[n]`, differentiable with respect to the leaves.
    fn losses(&self, ratios: &Ratios, step: &Step) -> Tensor;

    /// The logit of a pair, `[n]`: above 0 the winner has become likelier. `None` for units that are no pairs.
    fn logits(&self, _: &Ratios, _: &Step) -> Option<Tensor> {
        None
    }

    /// True where a clamp removes the gradient of a transition, `[M]` bool.
    fn clamped(&self, ratios: &Ratios) -> Tensor;
}

/// Result of an objective on a micro-batch of units.
#[derive(Debug)]
pub struct StepEvaluation {
    /// One per unit.
    pub losses: Vec<f64>,
    pub logits: Option<Vec<f64>>,
    /// d(sum of losses)/dr, `[M]`.
    pub d_r: Tensor,
    /// d(sum of losses)/d drift, `[M]`.
    pub d_drift: Option<Tensor>,
    /// Transitions without gradient because of a clamp, and transitions read; a row read twice counts twice.
    pub clamped: (usize, usize),
}

/// Evaluates the loss of units and differentiates its sum.
///
/// # Errors
/// When libtorch refuses the backward pass.
pub fn evaluate_units(method: &dyn StepLoss, ratios: &Ratios, step: &Step) -> Result<StepEvaluation, TchError> {
    let leaves = ratios.as_leaves();
    let losses = method.losses(&leaves, step);
    let mut inputs = vec![leaves.r.shallow_clone()];
    inputs.extend(leaves.drift.as_ref().map(Tensor::shallow_clone));
    let grads = Tensor::f_run_backward(&[losses.sum(Kind::Double)], &inputs, false, false)?;
    let grad = |i: usize| grads.get(i).filter(|g| g.defined()).map_or_else(|| inputs[i].zeros_like(), Tensor::detach);
    let held = numbers(&method.clamped(ratios));
    let read: Vec<i64> = ratios.units.iter().flat_map(|unit| unit.members.concat()).collect();
    Ok(StepEvaluation {
        losses: numbers(&losses),
        logits: method.logits(ratios, step).map(|u| numbers(&u)),
        d_r: grad(0).set_requires_grad(false),
        d_drift: leaves.drift.as_ref().map(|_| grad(1).set_requires_grad(false)),
        clamped: (read.iter().filter(|row| held[**row as usize] > 0.0).count(), read.len()),
    })
}

/// A loss of residuals f_theta - x_0, both as predicted pictures' latents (self_npo).
pub trait ResidualLoss {
    /// `[R]` of `[R, C, h, w]`, differentiable.
    fn losses(&self, residuals: &Tensor) -> Tensor;
}

impl Objective {
    /// The loss of units of a method that samples while it trains.
    pub fn of_units(&self) -> Option<&dyn StepLoss> {
        match self {
            Objective::Steps(method) => Some(method.as_ref()),
            Objective::Pairs(_) | Objective::Lists(_) | Objective::Labels(_) | Objective::Residuals(_) => None,
        }
    }
}
