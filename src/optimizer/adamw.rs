//! torch.optim.AdamW (arXiv 1711.05101) by libtorch's fused kernel, with readable state.

use super::rule::Rule;
use anyhow::Result;
use diffpref_native::FusedAdamW;
use tch::{Kind, Tensor};

/// `exp_avg` and `exp_avg_sq` have the shapes of the parameters; `steps` are float32 scalars, as required by the
/// kernel.
pub struct AdamW {
    exp_avg: Vec<Tensor>,
    exp_avg_sq: Vec<Tensor>,
    steps: Vec<Tensor>,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
}

impl AdamW {
    /// Zero moments for `params`.
    pub fn new(params: &[Tensor], betas: (f64, f64), eps: f64, weight_decay: f64) -> Self {
        let zeros = || params.iter().map(|p| p.zeros_like().set_requires_grad(false)).collect();
        let steps = params.iter().map(|p| Tensor::zeros([], (Kind::Float, p.device()))).collect();
        Self { exp_avg: zeros(), exp_avg_sq: zeros(), steps, betas, eps, weight_decay }
    }
}

impl Rule for AdamW {
    fn step(&mut self, params: &[Tensor], grads: &[Tensor], lr: f64) -> Result<()> {
        let settings = FusedAdamW { lr, betas: self.betas, weight_decay: self.weight_decay, eps: self.eps };
        settings.step(params, grads, &self.exp_avg, &self.exp_avg_sq, &self.steps)?;
        Ok(())
    }

    fn state(&self, i: usize) -> Vec<(&'static str, Tensor)> {
        let slots = [("exp_avg", &self.exp_avg), ("exp_avg_sq", &self.exp_avg_sq), ("step", &self.steps)];
        slots.into_iter().map(|(slot, list)| (slot, list[i].shallow_clone())).collect()
    }
}
