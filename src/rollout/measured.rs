//! Rewards of held-out prompts.

use crate::metrics::put;
use crate::numbers::{interval, mean};
use crate::scorers::{Ratings, Rewards};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Ratings of held-out prompts: "reward" (the weighted sum, not shaped), "score_NAME" and "watch_NAME", a mean per
/// prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured(BTreeMap<String, Vec<f64>>);

impl Measured {
    /// `ratings` of all trajectories, prompt by prompt.
    pub fn of(rewards: &Rewards, draws: usize, ratings: &Ratings) -> Self {
        let by_prompt = |values: &[f64]| values.chunks(draws).filter_map(mean).collect::<Vec<f64>>();
        let mut out = BTreeMap::from([("reward".to_string(), by_prompt(&rewards.weighted(ratings)))]);
        let (names, watched) = (rewards.names(), rewards.watch_names());
        for (prefix, names, scores) in [("score", names, &ratings.scores), ("watch", watched, &ratings.watch)] {
            out.extend(names.iter().zip(scores).map(|(name, of)| (format!("{prefix}_{name}"), by_prompt(of))));
        }
        Self(out)
    }

    /// val_NAME, and its gain over the start model: val_NAME_gain, with a 95 % interval over prompts, which are
    /// paired.
    pub fn against(&self, start: &Self) -> Map<String, Value> {
        let mut out = Map::new();
        for (name, now) in &self.0 {
            put(&mut out, &format!("val_{name}"), mean(now));
            let Some(then) = start.0.get(name).filter(|then| then.len() == now.len()) else { continue };
            let gains: Vec<f64> = now.iter().zip(then).map(|(now, then)| now - then).collect();
            put(&mut out, &format!("val_{name}_gain"), mean(&gains));
            if let Some((low, high)) = interval(&gains) {
                put(&mut out, &format!("val_{name}_gain_lo"), Some(low));
                put(&mut out, &format!("val_{name}_gain_hi"), Some(high));
            }
        }
        out
    }
}
