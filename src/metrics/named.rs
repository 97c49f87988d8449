//! Numbers of a metrics line whose keys hold the name of a scorer or of an objective's statistic.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Prefix of means over held-out prompts.
const HELD_OUT: &str = "val_";
/// Suffix of gains over the start model on held-out prompts.
const GAIN: &str = "_gain";
/// Name of the weighted sum of the scores, next to the scores themselves.
pub const REWARD: &str = "reward";

/// Key of a divergence: of an iteration's samples from the start model, or the statistic of kto.
const KL: &str = "kl";

/// Part of a scorer in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Part of the reward.
    Trained,
    /// Not trained on: a hacked reward shows in it.
    Watched,
}

impl Role {
    fn prefix(self) -> &'static str {
        match self {
            Self::Trained => "score_",
            Self::Watched => "watch_",
        }
    }

    /// `score_NAME` or `watch_NAME`.
    pub fn key(self, scorer: &str) -> String {
        format!("{}{scorer}", self.prefix())
    }
}

/// A mean over held-out prompts against the start model's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    pub mean: f64,
    /// 95 % interval over prompts, which are paired; `None` with one prompt.
    pub interval: Option<(f64, f64)>,
}

/// Numbers by key.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Named(BTreeMap<String, f64>);

impl Named {
    /// Sets a key that has a value.
    pub fn put(&mut self, key: impl Into<String>, value: Option<f64>) {
        self.0.extend(value.map(|value| (key.into(), value)));
    }

    /// Adds all numbers of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Sets the mean log p_theta - log p_start of an iteration's transitions.
    pub fn put_kl(&mut self, kl: Option<f64>) {
        self.put(KL, kl);
    }

    /// The number of [`put_kl`](Self::put_kl), or kto's statistic.
    pub fn kl(&self) -> Option<f64> {
        self.get(KL)
    }

    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).copied()
    }

    /// Names of scorers with a value.
    pub fn scorers(&self, role: Role) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(move |key| key.strip_prefix(role.prefix()))
    }

    /// Mean of a scorer over an iteration's samples.
    pub fn score(&self, role: Role, scorer: &str) -> Option<f64> {
        self.get(&role.key(scorer))
    }

    /// Sets the mean over held-out prompts. `name`: [`REWARD`], or a scorer's key.
    pub fn put_held_out(&mut self, name: &str, mean: Option<f64>, gain: Option<Gain>) {
        self.put(format!("{HELD_OUT}{name}"), mean);
        let Some(gain) = gain else { return };
        let key = format!("{HELD_OUT}{name}{GAIN}");
        self.put(format!("{key}_lo"), gain.interval.map(|ends| ends.0));
        self.put(format!("{key}_hi"), gain.interval.map(|ends| ends.1));
        self.put(key, Some(gain.mean));
    }

    /// Mean over held-out prompts.
    pub fn held_out(&self, name: &str) -> Option<f64> {
        self.get(&format!("{HELD_OUT}{name}"))
    }

    /// Gain over the start model on held-out prompts.
    pub fn gain(&self, name: &str) -> Option<Gain> {
        let key = format!("{HELD_OUT}{name}{GAIN}");
        let interval = self.get(&format!("{key}_lo")).zip(self.get(&format!("{key}_hi")));
        Some(Gain { mean: self.get(&key)?, interval })
    }

    /// Names of watched scorers with a gain on held-out prompts.
    pub fn watched_gains(&self) -> impl Iterator<Item = &str> {
        let name = |key: &'_ String| -> Option<std::ops::Range<usize>> {
            let start = HELD_OUT.len() + Role::Watched.prefix().len();
            let rest = key.strip_prefix(HELD_OUT)?.strip_prefix(Role::Watched.prefix())?.strip_suffix(GAIN)?;
            Some(start..start + rest.len())
        };
        self.0.keys().filter_map(move |key| Some(&key[name(key)?]))
    }
}

/// Keys with other values, of other versions, are left out.
impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = |(key, value): (String, Value)| match value {
            Value::Null => Some((key, f64::NAN)),
            Value::Number(number) => Some((key, number.as_f64()?)),
            Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
        };
        Ok(Self(BTreeMap::<String, Value>::deserialize(from)?.into_iter().filter_map(number).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scorers_are_found_by_role() {
        let mut named = Named::default();
        named.put(Role::Trained.key("style"), Some(1.0));
        named.put(Role::Watched.key("content"), Some(2.0));
        assert_eq!(named.scorers(Role::Watched).collect::<Vec<_>>(), ["content"]);
        assert_eq!(named.score(Role::Trained, "style"), Some(1.0));
    }

    #[test]
    fn a_gain_reads_back_with_its_interval() {
        let (mut named, gain) = (Named::default(), Gain { mean: 0.5, interval: Some((0.25, 0.75)) });
        named.put_held_out(REWARD, Some(2.0), Some(gain));
        named.put_held_out(&Role::Watched.key("content"), Some(3.0), Some(Gain { mean: -1.0, interval: None }));
        assert_eq!(named.gain(REWARD), Some(gain));
        assert_eq!(named.held_out(REWARD), Some(2.0));
        assert_eq!(named.get("val_reward_gain_lo"), Some(0.25));
        assert_eq!(named.watched_gains().collect::<Vec<_>>(), ["content"]);
    }
}
