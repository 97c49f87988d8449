//! Running statistics that steer a run: beta = "auto" and the spike guard. Both live in the checkpoint.

use serde::{Deserialize, Serialize};

/// beta of each step: fixed, or moved so that about a fifth of each gradient stays (`beta = "auto"`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beta {
    /// beta of the last step taken (before any: the default).
    current: f64,
    auto: bool,
    /// Running mean of mean |h|, decay 0.99, not yet bias-corrected.
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

    /// beta of step `s` (from 1); known before the step starts. Asking changes nothing: a step that is stopped half-way
    /// is asked for again after the resume.
    pub fn of_step(&self, s: u64) -> f64 {
        if !self.auto || s <= Self::FIXED_STEPS || self.count == 0 {
            return self.current;
        }
        let mean = self.mean / (1.0 - Self::DECAY.powf(self.count as f64));
        let g = Self::TARGET_FACTOR;
        let target = (2.0 * ((1.0 - g) / g).ln() / mean).clamp(500.0, 20000.0);
        target.clamp(self.current / Self::STEP_LIMIT, self.current * Self::STEP_LIMIT)
    }

    /// Takes in the beta that a finished step, skipped or not, was taken with.
    pub fn used(&mut self, beta: f64) {
        self.current = beta;
    }

    /// Takes in the mean |h| of a step that was not skipped.
    pub fn observe(&mut self, mean_abs_h: f64) {
        self.mean = Self::DECAY * self.mean + (1.0 - Self::DECAY) * mean_abs_h;
        self.count += 1;
    }
}

/// Notices a gradient norm far outside the recent ones.
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
        let centre = median(self.window.clone());
        let deviation = median(self.window.iter().map(|g| (g - centre).abs()).collect());
        grad_norm.log10() > centre + 10.0 * deviation.max(0.05)
    }

    /// Takes in a step that was taken.
    pub fn taken(&mut self, grad_norm: f64) {
        self.skipped_in_a_row = 0;
        if grad_norm > 0.0 {
            self.window.push(grad_norm.log10());
        }
        if self.window.len() > Self::WINDOW {
            self.window.remove(0);
        }
    }

    /// Whether one more skipped step is one too many.
    pub fn exhausted(&self) -> bool {
        self.skipped_in_a_row + 1 >= Self::SKIPS_ALLOWED
    }

    /// Takes in a skipped step.
    pub fn skipped(&mut self) {
        self.skipped_in_a_row += 1;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { 0.5 * (values[middle - 1] + values[middle]) }
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
}
