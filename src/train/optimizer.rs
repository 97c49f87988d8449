//! AdamW with readable state, gradient clipping, and the learning rate of a step.

use super::step::Halted;
use crate::config::{OptimConfig, TrainConfig};
use anyhow::{Result, bail};
use diffpref_native::{FusedAdamW, global_norm, scale_};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// torch.optim.AdamW over one group of tensors.
pub struct AdamW {
    names: Vec<String>,
    params: Vec<Tensor>,
    exp_avg: Vec<Tensor>,
    exp_avg_sq: Vec<Tensor>,
    steps: Vec<Tensor>,
    settings: FusedAdamW,
    max_grad_norm: f64,
}

impl AdamW {
    /// Fresh state for `trainable`.
    pub fn new(trainable: &[(String, Tensor)], config: &OptimConfig) -> Self {
        let params: Vec<Tensor> = trainable.iter().map(|(_, t)| t.shallow_clone()).collect();
        let zeros = || params.iter().map(|p| p.zeros_like().set_requires_grad(false)).collect::<Vec<_>>();
        Self {
            names: trainable.iter().map(|(n, _)| n.clone()).collect(),
            exp_avg: zeros(),
            exp_avg_sq: zeros(),
            steps: params.iter().map(|p| Tensor::zeros([], (Kind::Float, p.device()))).collect(),
            params,
            settings: FusedAdamW {
                lr: config.lr,
                betas: config.betas,
                weight_decay: config.weight_decay,
                eps: config.eps,
            },
            max_grad_norm: config.max_grad_norm,
        }
    }

    /// Accumulated gradients, zeros where a parameter took no part, multiplied by `factor`.
    pub fn gradients(&self, factor: f64) -> Result<Vec<Tensor>> {
        let grads: Vec<Tensor> = self
            .params
            .iter()
            .map(|p| {
                let grad = p.grad();
                if grad.defined() { grad } else { p.zeros_like().set_requires_grad(false) }
            })
            .collect();
        scale_(&grads, factor)?;
        Ok(grads)
    }

    /// Forgets the accumulated gradients.
    pub fn zero_grad(&self) {
        for p in &self.params {
            let mut grad = p.grad();
            if grad.defined() {
                let _ = grad.zero_();
            }
        }
    }

    /// The norm that clipping looks at. A norm that is not finite names the first tensor to blame.
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
        let settings = FusedAdamW { lr, ..self.settings };
        settings.step(&self.params, grads, &self.exp_avg, &self.exp_avg_sq, &self.steps)?;
        Ok(())
    }

    /// The state by name, as a checkpoint stores it: `NAME.exp_avg`, `NAME.exp_avg_sq`, and the step count.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut out = Vec::new();
        for (i, name) in self.names.iter().enumerate() {
            out.push((format!("{name}.exp_avg"), self.exp_avg[i].shallow_clone()));
            out.push((format!("{name}.exp_avg_sq"), self.exp_avg_sq[i].shallow_clone()));
            out.push((format!("{name}.step"), self.steps[i].shallow_clone()));
        }
        out
    }

    /// Takes over a stored state.
    pub fn load(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        for (i, name) in self.names.iter().enumerate() {
            copy_into(&mut self.exp_avg[i], state, &format!("{name}.exp_avg"))?;
            copy_into(&mut self.exp_avg_sq[i], state, &format!("{name}.exp_avg_sq"))?;
            copy_into(&mut self.steps[i], state, &format!("{name}.step"))?;
        }
        Ok(())
    }
}

/// Copies the stored tensor `name` into `target`.
pub fn copy_into(target: &mut Tensor, stored: &HashMap<String, Tensor>, name: &str) -> Result<()> {
    let Some(value) = stored.get(name) else { bail!("the checkpoint lacks {name}: expected it beside the others") };
    if value.size() != target.size() {
        bail!("the checkpoint's {name} has shape {:?}, expected {:?}", value.size(), target.size());
    }
    let _frozen = tch::no_grad_guard();
    target.f_copy_(&value.to_device(target.device()))?;
    Ok(())
}

/// The learning rate of step `s` (from 1): linear warm-up, then constant, linear or cosine.
pub fn learning_rate(optim: &OptimConfig, train: &TrainConfig, s: u64) -> f64 {
    let lr = match optim.lr_scale.as_str() {
        "global_batch" => optim.lr * train.pairs_per_step() as f64,
        _ => optim.lr,
    };
    let w = optim.warmup_steps;
    if s <= w {
        return lr * s as f64 / w as f64;
    }
    let q = (s - 1 - w) as f64 / (train.steps.saturating_sub(w)).max(1) as f64;
    match optim.schedule.as_str() {
        "linear" => lr * (1.0 - q),
        "cosine" => lr * (1.0 + (std::f64::consts::PI * q).cos()) / 2.0,
        _ => lr,
    }
}

/// An exponential moving average of the trained weights: ema <- decay ema + (1 - decay) weights.
pub struct Ema {
    decay: f64,
    pub weights: Vec<(String, Tensor)>,
}

impl Ema {
    /// Starts at the weights themselves; `None` when the configuration wants none.
    pub fn new(trainable: &[(String, Tensor)], decay: f64) -> Option<Self> {
        (decay > 0.0)
            .then(|| Self { decay, weights: trainable.iter().map(|(n, t)| (n.clone(), t.detach().copy())).collect() })
    }

    /// Takes in the weights after an unskipped step.
    pub fn update(&mut self, trainable: &[(String, Tensor)]) {
        let _frozen = tch::no_grad_guard();
        for ((_, average), (_, weight)) in self.weights.iter_mut().zip(trainable) {
            let _ = average.lerp_(weight, 1.0 - self.decay);
        }
    }

    /// Takes over stored averages.
    pub fn load(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        self.weights.iter_mut().try_for_each(|(name, t)| copy_into(t, stored, name))
    }
}

/// Puts `values` into the network while it is alive and gives the weights back when dropped.
pub struct Swapped<'a> {
    trainable: &'a [(String, Tensor)],
    own: Vec<Tensor>,
}

impl<'a> Swapped<'a> {
    pub fn new(trainable: &'a [(String, Tensor)], values: &[(String, Tensor)]) -> Self {
        let _frozen = tch::no_grad_guard();
        let own = trainable.iter().map(|(_, t)| t.detach().copy()).collect();
        for ((_, t), (_, value)) in trainable.iter().zip(values) {
            t.shallow_clone().copy_(value);
        }
        Self { trainable, own }
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        let _frozen = tch::no_grad_guard();
        for ((_, t), own) in self.trainable.iter().zip(&self.own) {
            t.shallow_clone().copy_(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn optim(schedule: &str, warmup_steps: u64) -> OptimConfig {
        OptimConfig {
            lr: 1.0,
            lr_scale: "none".into(),
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            schedule: schedule.into(),
            warmup_steps,
        }
    }

    fn train(steps: u64) -> TrainConfig {
        let text = format!(
            "out = \"x\"\nsteps = {steps}\nmicro_batch = 2\ngrad_accum = 3\nseed = 0\nthreads = 1\ncheckpoint_every = 1\nkeep_last = 1\non_spike = \"warn\"\noverwrite = false"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn warm_up_is_linear_and_schedules_start_at_the_full_rate() {
        for schedule in ["constant", "linear", "cosine"] {
            assert_eq!(learning_rate(&optim(schedule, 4), &train(12), 1), 0.25, "{schedule}");
            assert_eq!(learning_rate(&optim(schedule, 4), &train(12), 5), 1.0, "{schedule}");
        }
        assert_eq!(learning_rate(&optim("linear", 4), &train(12), 9), 0.5);
        assert!((learning_rate(&optim("cosine", 0), &train(10), 6) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn global_batch_multiplies_the_rate_by_the_pairs_of_a_step() {
        let optim = OptimConfig { lr_scale: "global_batch".into(), ..optim("constant", 0) };
        assert_eq!(learning_rate(&optim, &train(10), 3), 6.0);
    }

    #[test]
    fn swapped_weights_come_back_when_dropped() {
        let trainable = vec![("w".to_string(), Tensor::from_slice(&[1.0f32, 2.0]))];
        let ema = vec![("w".to_string(), Tensor::from_slice(&[5.0f32, 6.0]))];
        {
            let _swapped = Swapped::new(&trainable, &ema);
            assert_eq!(trainable[0].1.double_value(&[0]), 5.0);
        }
        assert_eq!(trainable[0].1.double_value(&[1]), 2.0);
    }
}
