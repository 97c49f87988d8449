//! Rewards of held-out prompts.

use crate::metrics::{Gain, Named, REWARD, Role};
use crate::numbers::{interval, mean};
use crate::scorers::{Ratings, Rewards};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Ratings of held-out prompts: "reward" (the weighted sum, not shaped), "score_NAME" and "watch_NAME", a mean per
/// prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured(BTreeMap<String, Vec<f64>>);

impl Measured {
    /// `ratings` of all trajectories, prompt by prompt.
    pub fn of(rewards: &Rewards, draws: usize, ratings: &Ratings) -> Self {
        let by_prompt = |values: &[f64]| values.chunks(draws).filter_map(mean).collect::<Vec<f64>>();
        let mut out = BTreeMap::from([(REWARD.to_string(), by_prompt(&rewards.weighted(ratings)))]);
        let (names, watched) = (rewards.names(), rewards.watch_names());
        for (role, names, scores) in [(Role::Trained, names, &ratings.scores), (Role::Watched, watched, &ratings.watch)]
        {
            out.extend(names.iter().zip(scores).map(|(name, of)| (role.key(name), by_prompt(of))));
        }
        Self(out)
    }

    /// val_NAME, and its gain over the start model: val_NAME_gain, with a 95 % interval over prompts, which are
    /// paired.
    pub fn against(&self, start: &Self) -> Named {
        let mut out = Named::default();
        for (name, now) in &self.0 {
            let gains = |then: &Vec<f64>| now.iter().zip(then).map(|(now, then)| now - then).collect::<Vec<f64>>();
            let gains = start.0.get(name).filter(|then| then.len() == now.len()).map(gains);
            let gain = gains.and_then(|gains| Some(Gain { mean: mean(&gains)?, interval: interval(&gains) }));
            out.put_held_out(name, mean(now), gain);
        }
        out
    }
}
