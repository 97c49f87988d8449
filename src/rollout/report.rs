//! Metrics of an iteration's samples, on the metrics line of its first step (docs/train.md).

use super::grid::Grid;
use crate::metrics::{Line, Named, Role};
use crate::numbers::{mean, std};
use crate::scorers::Ratings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Largest number of prompts in rollout_reward_by_prompt.
const LISTED_PROMPTS: usize = 64;

/// The numbers of an iteration.
pub struct Report<'a> {
    pub iteration: u64,
    pub grid: Grid,
    /// Texts, prompt by prompt.
    pub prompts: &'a [String],
    /// Weighted sums of scores, not shaped, trajectory by trajectory.
    pub rewards: &'a [f64],
    pub ratings: &'a Ratings,
    pub names: &'a [String],
    pub watch_names: &'a [String],
    /// log p_theta - log p_start as sampled.
    pub drift: &'a [f64],
    pub diversity: Option<f64>,
    pub kept: usize,
    pub units: usize,
    pub idle_groups: Option<u64>,
    /// Iterations before this one without kept units.
    pub empty: u64,
    pub seconds: f64,
}

impl Report<'_> {
    pub fn metrics(&self) -> SampledMetrics {
        let of_prompt = self.rewards.chunks(self.grid.per_prompt).zip(self.prompts).take(LISTED_PROMPTS);
        let by_prompt = of_prompt.filter_map(|(rewards, prompt)| Some((prompt.clone(), mean(rewards)?)));
        let mut scores = Named::default();
        for (role, names, of) in
            [(Role::Trained, self.names, &self.ratings.scores), (Role::Watched, self.watch_names, &self.ratings.watch)]
        {
            names.iter().zip(of).for_each(|(name, of)| scores.put(role.key(name), mean(of)));
        }
        SampledMetrics {
            iteration: self.iteration,
            reward: mean(self.rewards),
            reward_std: std(self.rewards),
            reward_by_prompt: by_prompt.collect(),
            scores,
            kl: mean(self.drift),
            diversity: self.diversity,
            kept_transitions: self.kept as u64,
            kept_units: self.units as u64,
            empty_iterations: self.empty,
            idle_groups: self.idle_groups,
            seconds: self.seconds,
        }
    }
}

/// Numbers of an iteration's samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampledMetrics {
    iteration: u64,
    reward: Option<f64>,
    reward_std: Option<f64>,
    reward_by_prompt: BTreeMap<String, f64>,
    scores: Named,
    kl: Option<f64>,
    diversity: Option<f64>,
    kept_transitions: u64,
    kept_units: u64,
    empty_iterations: u64,
    #[serde(default)]
    idle_groups: Option<u64>,
    seconds: f64,
}

impl SampledMetrics {
    /// Sets the numbers of the iteration in the line of its first step.
    pub fn write(self, line: &mut Line) {
        line.iteration = Some(self.iteration);
        line.rollout_reward = self.reward;
        line.rollout_reward_std = self.reward_std;
        line.rollout_reward_by_prompt = self.reward_by_prompt;
        line.named.extend(self.scores);
        line.named.put_kl(self.kl);
        line.diversity = self.diversity;
        line.kept_transitions = Some(self.kept_transitions);
        line.kept_units = Some(self.kept_units);
        line.empty_iterations = (self.empty_iterations > 0).then_some(self.empty_iterations);
        line.idle_groups = self.idle_groups;
        line.rollout_s = Some(self.seconds);
    }
}

/// Diversity of a prompt's pictures: root mean square distance of their latents `[n, C, h, w]`, mean over pairs and
/// prompts. With one trajectory per prompt: over all pictures. `None`: fewer than two.
pub fn diversity(grid: Grid, latents: &[Tensor]) -> Option<f64> {
    let per_group = if grid.per_prompt > 1 { grid.per_prompt } else { latents.len() };
    let mut distances = Vec::new();
    for group in latents.chunks(per_group) {
        for (i, a) in group.iter().enumerate() {
            distances.extend(group[..i].iter().map(|b| (a - b).square().mean(Kind::Double).double_value(&[]).sqrt()));
        }
    }
    mean(&distances)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diversity_compares_the_pictures_of_a_prompt_only() {
        let flat = |x: f64| Tensor::from_slice(&[x, x, x, x]).reshape([1, 2, 2]);
        let latents = [flat(0.0), flat(1.0), flat(10.0), flat(13.0)];
        assert_eq!(diversity(Grid { prompts: 2, per_prompt: 2 }, &latents), Some(2.0));
        assert_eq!(diversity(Grid { prompts: 2, per_prompt: 1 }, &latents[..2]), Some(1.0));
        assert_eq!(diversity(Grid { prompts: 1, per_prompt: 1 }, &latents[..1]), None);
    }
}
