//! Statistics over whole steps, never over a micro-batch (docs/methods.md, section 0.7).

use serde::{Deserialize, Serialize};

/// A statistic read by a method's loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistic {
    /// Name in the metrics.
    pub name: &'static str,
    pub law: Law,
}

/// Steps of a statistic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// The current step alone.
    Step,
    /// Every step so far, the current one included.
    AllSteps,
    /// The steps before, as a running mean (decay 0.99, bias-corrected); in the first step that step itself.
    Before,
    /// Trained from 0 by gradient descent with this rate. Its values are derivatives of the losses with respect to it.
    Learned { rate: f64 },
}

impl Law {
    /// Whether all errors of a step must be known before its first backward pass.
    pub fn looks_ahead(self, past: &Running) -> bool {
        match self {
            Law::Step | Law::AllSteps => true,
            Law::Before => past.is_empty(),
            Law::Learned { .. } => false,
        }
    }
}

/// State of a statistic from past steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Bias-corrected by [`mean`](Self::mean).
    decayed: f64,
    steps: u64,
    sum: f64,
    count: u64,
    #[serde(default)]
    learned: f64,
}

impl Running {
    const DECAY: f64 = 0.99;

    /// Adds the values of a step that was not skipped.
    pub fn observe(&mut self, law: Law, values: &[f64]) {
        if values.is_empty() {
            return;
        }
        let sum: f64 = values.iter().sum();
        if let Law::Learned { rate } = law {
            self.learned -= rate * sum / values.len() as f64;
        }
        self.decayed = Self::DECAY * self.decayed + (1.0 - Self::DECAY) * sum / values.len() as f64;
        self.steps += 1;
        self.sum += sum;
        self.count += values.len() as u64;
    }

    pub fn is_empty(&self) -> bool {
        self.steps == 0
    }

    /// The statistic of a step with `values`, which may be missing if the law uses past steps only.
    pub fn of_step(&self, law: Law, values: &[f64]) -> f64 {
        let mean = |sum: f64, count: u64| if count == 0 { 0.0 } else { sum / count as f64 };
        let sum: f64 = values.iter().sum();
        match law {
            Law::Before if !self.is_empty() => self.decayed / (1.0 - Self::DECAY.powf(self.steps as f64)),
            Law::Before | Law::Step => mean(sum, values.len() as u64),
            Law::AllSteps => mean(self.sum + sum, self.count + values.len() as u64),
            Law::Learned { .. } => self.learned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_the_steps_before_is_that_of_the_first_step_in_the_first() {
        let mut running = Running::default();
        assert!(Law::Before.looks_ahead(&running));
        assert_eq!(running.of_step(Law::Before, &[1.0, 3.0]), 2.0);
        running.observe(Law::Before, &[1.0, 3.0]);
        assert!(!Law::Before.looks_ahead(&running));
        assert!((running.of_step(Law::Before, &[]) - 2.0).abs() < 1e-12);
        running.observe(Law::Before, &[4.0]);
        // (0.99 x 0.01 x 2 + 0.01 x 4) / (1 - 0.99^2)
        let expected = (0.99 * 0.02 + 0.04) / (1.0 - 0.99 * 0.99);
        assert!((running.of_step(Law::Before, &[100.0]) - expected).abs() < 1e-12);
    }

    /// docs/methods.md 21.6, bco: d in step {A, B}, then in a step of one pair z .5, y .25
    #[test]
    fn all_steps_count_every_value_once() {
        let mut running = Running::default();
        let first = [1.0, -1.0, -0.75, -0.5];
        assert!((running.of_step(Law::AllSteps, &first) + 0.3125).abs() < 1e-12);
        running.observe(Law::AllSteps, &first);
        assert!((running.of_step(Law::AllSteps, &[0.5, 0.25]) + 0.083333).abs() < 1e-6);
    }

    #[test]
    fn a_learned_statistic_descends_along_the_mean_of_its_derivatives() {
        let mut running = Running::default();
        let law = Law::Learned { rate: 0.5 };
        assert!(!law.looks_ahead(&running));
        assert_eq!(running.of_step(law, &[7.0]), 0.0);
        running.observe(law, &[1.0, -3.0]);
        running.observe(law, &[]);
        assert_eq!(running.of_step(law, &[7.0]), 0.5);
        running.observe(law, &[0.25]);
        assert_eq!(running.of_step(law, &[]), 0.375);
    }
}
