//! Advantages of pictures over the policy's other pictures of the same prompt (docs/methods.md, section 10c).
//!
//! ```text
//! A = (R - mean) / (std + 1e-6),   mean and std (over N) of the last `buffer` rewards of the prompt, the new ones included
//! ```
//!
//! A prompt with fewer rewards uses mean and std of all rewards of the iteration.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Keeps the advantage of equal rewards finite, at 0.
const SMALL: f64 = 1e-6;

/// Rewards of earlier iterations; part of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advantages {
    buffer: usize,
    /// The last rewards of a prompt, oldest first, by its index.
    rewards: BTreeMap<usize, VecDeque<f64>>,
}

impl Advantages {
    /// Empty memory; `buffer` rewards of each prompt are kept.
    pub fn new(buffer: usize) -> Self {
        Self { buffer, rewards: BTreeMap::new() }
    }

    /// Adds the finite rewards of an iteration, each with its prompt's index. Returns their advantages, in order.
    pub fn of(&mut self, rewards: &[(usize, f64)]) -> Vec<f64> {
        for (prompt, reward) in rewards {
            let kept = self.rewards.entry(*prompt).or_default();
            kept.push_back(*reward);
            if kept.len() > self.buffer {
                kept.pop_front();
            }
        }
        let all = Spread::of(rewards.iter().map(|(_, reward)| *reward));
        let mut spreads = BTreeMap::new();
        for (prompt, _) in rewards {
            spreads.entry(*prompt).or_insert_with(|| {
                let kept = self.rewards.get(prompt).filter(|kept| kept.len() >= self.buffer);
                kept.map_or(all, |kept| Spread::of(kept.iter().copied()))
            });
        }
        rewards.iter().map(|(prompt, reward)| spreads[prompt].advantage(*reward)).collect()
    }
}

#[derive(Clone, Copy)]
struct Spread {
    mean: f64,
    std: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let n = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / n;
        Self { mean, std: (values.map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt() }
    }

    fn advantage(&self, reward: f64) -> f64 {
        (reward - self.mean) / (self.std + SMALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1.01e-6), "{found:?} is not {expected:?}");
    }

    /// docs/methods.md 21.9
    #[test]
    fn a_full_buffer_measures_by_the_rewards_of_the_prompt_the_new_ones_included() {
        let mut advantages = Advantages::new(16);
        let first: Vec<(usize, f64)> = (1..=16).filter(|i| ![3, 15].contains(i)).map(|i| (7, f64::from(i))).collect();
        advantages.of(&first);
        assert_close(&advantages.of(&[(7, 15.0), (7, 3.0)]), &[1.410048, -1.193117]);
    }

    /// docs/methods.md 21.9
    #[test]
    fn a_prompt_with_few_rewards_is_measured_by_the_iteration() {
        let batch: Vec<(usize, f64)> = [1.0, 2.0, 4.0, 9.0].into_iter().enumerate().collect();
        assert_close(&Advantages::new(16).of(&batch), &[-0.973328, -0.648885, 0.0, 1.622214]);
    }

    #[test]
    fn prompts_are_measured_apart_and_old_rewards_are_forgotten() {
        let mut advantages = Advantages::new(2);
        advantages.of(&[(0, 1e9), (1, -1e9)]);
        // Prompt 0 has two rewards of its own, prompt 2 only one: 0, 1, 5 are all of the iteration.
        let found = advantages.of(&[(0, 0.0), (0, 1.0), (2, 5.0)]);
        let std = (14.0f64 / 3.0).sqrt();
        assert_close(&found, &[-0.5 / 0.500001, 0.5 / 0.500001, 3.0 / (std + 1e-6)]);
    }

    #[test]
    fn equal_rewards_have_no_advantage() {
        assert_eq!(Advantages::new(2).of(&[(0, 0.3), (0, 0.3), (1, 0.3)]), [0.0; 3]);
        assert!(Advantages::new(2).of(&[]).is_empty());
    }

    #[test]
    fn a_checkpoint_keeps_every_reward_to_the_bit() {
        let mut advantages = Advantages::new(3);
        advantages.of(&[(4, 0.1), (11, 1.0 / 3.0), (4, 1e-300)]);
        let text = serde_json::to_string(&advantages).unwrap();
        let mut back: Advantages = serde_json::from_str(&text).unwrap();
        assert_eq!(back, advantages);
        let next = [(4, 0.7), (11, 0.2)];
        assert_eq!(back.of(&next), advantages.of(&next));
    }
}
