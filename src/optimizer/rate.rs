//! The learning rate of a step.

use crate::settings::{LrScale, OptimConfig, Schedule};

/// The learning rate of step `s` (from 1) of `steps`: linear warm-up, then constant, linear or cosine. `per_step`: pairs
/// per step.
pub fn learning_rate(optim: &OptimConfig, steps: u64, per_step: u64, s: u64) -> f64 {
    let lr = match optim.lr_scale {
        LrScale::GlobalBatch => optim.lr * per_step as f64,
        LrScale::None => optim.lr,
    };
    let w = optim.warmup_steps;
    if s <= w {
        return lr * s as f64 / w as f64;
    }
    let q = (s - 1 - w) as f64 / (steps.saturating_sub(w)).max(1) as f64;
    match optim.schedule {
        Schedule::Linear => lr * (1.0 - q),
        Schedule::Cosine => lr * (1.0 + (std::f64::consts::PI * q).cos()) / 2.0,
        Schedule::Constant => lr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RuleConfig;

    fn optim(schedule: Schedule, warmup_steps: u64) -> OptimConfig {
        OptimConfig {
            lr: 1.0,
            lr_scale: LrScale::None,
            rule: RuleConfig::Adafactor,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            schedule,
            warmup_steps,
        }
    }

    #[test]
    fn warm_up_is_linear_and_schedules_start_at_the_full_rate() {
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            assert_eq!(learning_rate(&optim(schedule, 4), 12, 6, 1), 0.25, "{schedule}");
            assert_eq!(learning_rate(&optim(schedule, 4), 12, 6, 5), 1.0, "{schedule}");
        }
        assert_eq!(learning_rate(&optim(Schedule::Linear, 4), 12, 6, 9), 0.5);
        assert!((learning_rate(&optim(Schedule::Cosine, 0), 10, 6, 6) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn global_batch_multiplies_the_rate_by_the_pairs_of_a_step() {
        let optim = OptimConfig { lr_scale: LrScale::GlobalBatch, ..optim(Schedule::Constant, 0) };
        assert_eq!(learning_rate(&optim, 10, 6, 3), 6.0);
    }
}
