//! The optimizer: gradients in, weights changed in place, state by name.

use super::adafactor::{self, Adafactor};
use super::adamw::AdamW;
use super::adamw8bit::{self, AdamW8bit};
use super::rule::Rule;
use crate::networks::copy_into;
use crate::progress::Halted;
use crate::settings::{OptimConfig, RuleConfig};
use anyhow::{Result, bail};
use diffpref_native::{global_norm, scale_};
use std::collections::HashMap;
use tch::Tensor;

/// One group of trained tensors under one rule, clipped by their global norm.
pub struct Optimizer {
    names: Vec<String>,
    params: Vec<Tensor>,
    rule: Box<dyn Rule>,
    max_grad_norm: f64,
}

impl Optimizer {
    /// Fresh state for `trainable`.
    pub fn new(trainable: &[(String, Tensor)], config: &OptimConfig) -> Self {
        let params: Vec<Tensor> = trainable.iter().map(|(_, t)| t.shallow_clone()).collect();
        let rule: Box<dyn Rule> = match config.rule {
            RuleConfig::Adamw { betas, eps } => Box::new(AdamW::new(&params, betas, eps, config.weight_decay)),
            RuleConfig::Adamw8bit { betas, eps } => Box::new(AdamW8bit::new(&params, betas, eps, config.weight_decay)),
            RuleConfig::Adafactor => Box::new(Adafactor::new(&params, config.weight_decay)),
        };
        Self {
            names: trainable.iter().map(|(n, _)| n.clone()).collect(),
            params,
            rule,
            max_grad_norm: config.max_grad_norm,
        }
    }

    /// Gradient buffers of the backward passes, one per parameter; zeros for a parameter outside the graph.
    pub fn accumulated(&self) -> Vec<Tensor> {
        let grad = |p: &Tensor| {
            let grad = p.grad();
            if grad.defined() { grad } else { p.zeros_like().set_requires_grad(false) }
        };
        self.params.iter().map(grad).collect()
    }

    /// Clears the accumulated gradients.
    pub fn zero_grad(&self) {
        for p in &self.params {
            let mut grad = p.grad();
            if grad.defined() {
                let _ = grad.zero_();
            }
        }
    }

    /// The gradient norm for clipping. A norm that is not finite names the first responsible tensor.
    pub fn grad_norm(&self, grads: &[Tensor]) -> Result<f64> {
        let norm = global_norm(grads)?;
        if norm.is_finite() {
            return Ok(norm);
        }
        let culprit = self.names.iter().zip(grads).find(|(_, g)| !g.norm().double_value(&[]).is_finite());
        let name = culprit.map_or("(all tensors together)", |(n, _)| n.as_str());
        bail!(Halted::before_update(format!(
            "the gradient of {name} is not finite; the weights were not changed. Start another run with a lower optim.lr, or in float32."
        )))
    }

    /// Clips as `torch.nn.utils.clip_grad_norm_` does and takes one step at rate `lr`.
    pub fn step(&mut self, grads: &[Tensor], grad_norm: f64, lr: f64) -> Result<()> {
        let coefficient = self.max_grad_norm / (grad_norm + 1e-6);
        if coefficient < 1.0 {
            scale_(grads, coefficient)?;
        }
        let _frozen = tch::no_grad_guard();
        self.rule.step(&self.params, grads, lr)
    }

    /// The state in the form of a checkpoint: `NAME.exp_avg_sq`, `NAME.step` and so on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let of = |(i, name): (usize, &String)| {
            let state = self.rule.state(i).into_iter();
            state.map(|(slot, tensor)| (format!("{name}.{slot}"), tensor)).collect::<Vec<_>>()
        };
        self.names.iter().enumerate().flat_map(of).collect()
    }

    /// Restores a stored state.
    ///
    /// # Errors
    /// A missing part, or one of another shape.
    pub fn load(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        self.state().into_iter().try_for_each(|(name, mut tensor)| copy_into(&mut tensor, stored, &name))
    }
}

/// Bytes of the configured rule's state for `trainable` (without its step counts).
pub fn state_bytes(trainable: &[(String, Tensor)], config: &OptimConfig) -> u64 {
    let elements = |shape: &[i64]| shape.iter().product::<i64>() as u64;
    let of = |tensor: &Tensor| {
        let width = tensor.kind().elt_size_in_bytes();
        match config.rule {
            RuleConfig::Adamw { .. } => 2 * elements(&tensor.size()) * width as u64,
            RuleConfig::Adamw8bit { .. } => adamw8bit::bytes(tensor.numel(), width) as u64,
            RuleConfig::Adafactor => {
                let moments = adafactor::moments(&tensor.size());
                moments.iter().map(|(_, shape)| elements(shape)).sum::<u64>() * width as u64
            }
        }
    };
    trainable.iter().map(|(_, tensor)| of(tensor)).sum()
}
