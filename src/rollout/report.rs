//! Metrics of an iteration's samples, on the metrics line of its first step (docs/train.md).

use super::grid::Grid;
use crate::metrics::put;
use crate::numbers::{mean, std};
use crate::scorers::Ratings;
use serde_json::{Map, Value, json};
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
    /// Iterations before this one without kept units.
    pub empty: u64,
    pub seconds: f64,
}

impl Report<'_> {
    pub fn written(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("iteration".into(), json!(self.iteration));
        put(&mut out, "rollout_reward", mean(self.rewards));
        put(&mut out, "rollout_reward_std", std(self.rewards));
        let of_prompt = self.rewards.chunks(self.grid.per_prompt).zip(self.prompts).take(LISTED_PROMPTS);
        let by_prompt: Map<String, Value> =
            of_prompt.map(|(rewards, prompt)| (prompt.clone(), json!(mean(rewards)))).collect();
        out.insert("rollout_reward_by_prompt".into(), Value::Object(by_prompt));
        for (names, scores, prefix) in
            [(self.names, &self.ratings.scores, "score"), (self.watch_names, &self.ratings.watch, "watch")]
        {
            for (name, scores) in names.iter().zip(scores) {
                put(&mut out, &format!("{prefix}_{name}"), mean(scores));
            }
        }
        put(&mut out, "kl", mean(self.drift));
        put(&mut out, "diversity", self.diversity);
        for (key, count) in [("kept_transitions", self.kept), ("kept_units", self.units)] {
            out.insert(key.into(), json!(count));
        }
        if self.empty > 0 {
            out.insert("empty_iterations".into(), json!(self.empty));
        }
        put(&mut out, "rollout_s", Some(self.seconds));
        out
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
