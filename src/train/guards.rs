//! Running statistics that control a run: beta = "auto" and the spike guard. Both are part of the checkpoint.

use crate::numbers::median;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// beta of each step: fixed, or adapted to keep about a fifth of each gradient (`beta = "auto"`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beta {
    /// beta of the last step taken (before any: the default).
    current: f64,
    auto: bool,
    /// Running mean of mean |h|, decay 0.99, without bias correction.
    mean: f64,
    count: u64,
}

impl Beta {
    const DECAY: f64 = 0.99;
    const TARGET_FACTOR: f64 = 0.2;
    const STEP_LIMIT: f64 = 1.05;
    const FIXED_STEPS: u64 = 10;

    pub fn fixed(beta: f64) -> Self {
        Self { current: beta, auto: false, mean: 0.0, count: 0 }
    }

    /// Starts at the method's default.
    pub fn auto(default: f64) -> Self {
        Self { auto: true, ..Self::fixed(default) }
    }

    /// beta of step `s` (from 1), known before the step. The call has no side effect: an interrupted step calls again
    /// after the resume.
    pub fn of_step(&self, s: u64) -> f64 {
        if !self.auto || s <= Self::FIXED_STEPS || self.count == 0 {
            return self.current;
        }
        let mean = self.mean / (1.0 - Self::DECAY.powf(self.count as f64));
        let g = Self::TARGET_FACTOR;
        let target = (2.0 * ((1.0 - g) / g).ln() / mean).clamp(500.0, 20000.0);
        target.clamp(self.current / Self::STEP_LIMIT, self.current * Self::STEP_LIMIT)
    }

    /// Records the beta of a finished step, skipped or not.
    pub fn used(&mut self, beta: f64) {
        self.current = beta;
    }

    /// Adds the mean |h| of a step that was not skipped.
    pub fn observe(&mut self, mean_abs_h: f64) {
        self.mean = Self::DECAY * self.mean + (1.0 - Self::DECAY) * mean_abs_h;
        self.count += 1;
    }
}

/// Detects a gradient norm far outside the recent ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SpikeGuard {
    /// log10 of the gradient norms of the last unskipped steps.
    window: Vec<f64>,
    skipped_in_a_row: u32,
}

impl SpikeGuard {
    const WINDOW: usize = 200;
    const NEEDED: usize = 50;
    pub const SKIPS_ALLOWED: u32 = 5;

    /// Whether `grad_norm` is a spike: log10 above median + 10 max(MAD, 0.05).
    pub fn is_spike(&self, grad_norm: f64) -> bool {
        if self.window.len() < Self::NEEDED || grad_norm <= 0.0 {
            return false;
        }
        let Some(centre) = median(&self.window) else { return false };
        let distances: Vec<f64> = self.window.iter().map(|g| (g - centre).abs()).collect();
        let deviation = median(&distances).unwrap_or(0.0);
        grad_norm.log10() > centre + 10.0 * deviation.max(0.05)
    }

    /// Adds a step that was taken.
    pub fn taken(&mut self, grad_norm: f64) {
        self.skipped_in_a_row = 0;
        if grad_norm > 0.0 {
            self.window.push(grad_norm.log10());
        }
        if self.window.len() > Self::WINDOW {
            self.window.remove(0);
        }
    }

    /// Whether another skipped step exceeds the limit.
    pub fn exhausted(&self) -> bool {
        self.skipped_in_a_row + 1 >= Self::SKIPS_ALLOWED
    }

    /// Adds a skipped step.
    pub fn skipped(&mut self) {
        self.skipped_in_a_row += 1;
    }
}

/// Detects a policy that runs away from its reference: errors grow on winners and losers alike, while the margin
/// between them may still rise. Models turn to noise this way after hundreds of good steps.
#[derive(Debug, Clone, Default)]
pub struct RunawayGuard {
    /// Errors of the last steps: model and reference, winners and losers.
    window: VecDeque<[f64; 4]>,
    said: Option<u64>,
}

impl RunawayGuard {
    const WINDOW: usize = 20;
    /// Alarm threshold of model_mse as a multiple of ref_mse (docs/methods.md, section 0.6).
    const LIMIT: f64 = 1.05;
    const REPEAT: u64 = 200;

    /// Adds model_mse_w, model_mse_l, ref_mse_w, ref_mse_l of step `s`; returns a warning if due.
    pub fn observe(&mut self, s: u64, errors: [f64; 4]) -> Option<String> {
        self.window.push_back(errors);
        if self.window.len() > Self::WINDOW {
            self.window.pop_front();
        }
        let mean = |i: usize| self.window.iter().map(|e| e[i]).sum::<f64>() / self.window.len() as f64;
        let [model_w, model_l, ref_w, ref_l] = [0, 1, 2, 3].map(mean);
        let ratio = (model_w + model_l) / (ref_w + ref_l);
        let away = ratio > Self::LIMIT && model_w > ref_w && model_l > ref_l && self.window.len() == Self::WINDOW;
        if !away || self.said.is_some_and(|said| s < said + Self::REPEAT) {
            return None;
        }
        self.said = Some(s);
        Some(format!(
            "step {s}: warning: over the last {} steps model_mse is {:.0} % above ref_mse, on winners and losers alike: the policy runs away from its reference, which ends in noise pictures even while the margin rises. Lower optim.lr, raise method.beta, or set safeguard.name = \"sdpo\".",
            Self::WINDOW,
            100.0 * (ratio - 1.0)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_beta_keeps_its_default_for_ten_steps_and_then_moves_by_at_most_five_percent() {
        let mut beta = Beta::auto(5000.0);
        for s in 1..=10 {
            assert_eq!(beta.of_step(s), 5000.0);
            beta.observe(1e-3);
        }
        // 2 ln 4 / 1e-3 = 2772.6
        assert!((beta.of_step(11) - 5000.0 / 1.05).abs() < 1e-9);
        assert_eq!(beta.of_step(11), beta.of_step(11), "asking must not move it");
        for s in 11..100 {
            let of_step = beta.of_step(s);
            beta.used(of_step);
            beta.observe(1e-3);
        }
        assert!((beta.of_step(100) - 2.0 * 4f64.ln() / 1e-3).abs() < 1e-6);
    }

    #[test]
    fn a_fixed_beta_stays() {
        let mut beta = Beta::fixed(2000.0);
        beta.observe(1.0);
        assert_eq!(beta.of_step(50), 2000.0);
    }

    #[test]
    fn a_norm_far_above_the_recent_ones_is_a_spike_once_fifty_are_known() {
        let mut guard = SpikeGuard::default();
        for i in 0..49 {
            guard.taken(1.0 + 0.001 * f64::from(i));
        }
        assert!(!guard.is_spike(1e9));
        guard.taken(1.0);
        assert!(guard.is_spike(4.0));
        assert!(!guard.is_spike(2.0));
        for _ in 0..4 {
            assert!(!guard.exhausted());
            guard.skipped();
        }
        assert!(guard.exhausted());
    }

    #[test]
    fn a_policy_that_leaves_its_reference_on_both_sides_is_noticed_and_said_seldom() {
        let mut guard = RunawayGuard::default();
        for s in 1..20 {
            assert_eq!(guard.observe(s, [0.12, 0.13, 0.1, 0.1]), None, "the window is not full");
        }
        let said = guard.observe(20, [0.12, 0.13, 0.1, 0.1]).unwrap();
        assert!(said.starts_with("step 20: warning: over the last 20 steps model_mse is 25 % above ref_mse"), "{said}");
        assert!((21..220).all(|s| guard.observe(s, [0.12, 0.13, 0.1, 0.1]).is_none()));
        assert!(guard.observe(220, [0.12, 0.13, 0.1, 0.1]).is_some());
    }

    #[test]
    fn losers_that_get_worse_alone_are_what_training_is_for() {
        let mut guard = RunawayGuard::default();
        assert!((1..100).all(|s| guard.observe(s, [0.09, 0.15, 0.1, 0.1]).is_none()));
    }
}
