//! [timesteps]: at which timesteps losses are taken, and what they weigh.

use crate::data::timesteps::TimestepLaw;
use crate::keys::{Kind, Range, at_least, of, one_of, whole, within};
use crate::settings::facts::{Facts, Refusal};
use serde::{Deserialize, Serialize};

crate::choice! {
    /// `[timesteps] law`
    pub enum Law {
        Uniform = "uniform",
        Discounted = "discounted",
        List = "list",
    }
}

crate::choice! {
    /// `[timesteps] weighting`
    pub enum TimestepWeighting {
        None = "none",
        TimestepAware = "timestep_aware",
    }
}

crate::keys! {
    pub struct Parsed {
        /// how t is drawn
        law: Law = one_of::<Law>().or_text("uniform"),
        /// discounted: weight of a bin over the noisier one before it
        gamma: f64 = within(Range::SHARE).or("0.9"),
        /// discounted: bins of equal width
        n_bins: i64 = whole(1, 1000).or("50"),
        /// list: the timesteps to draw from, required there
        values: Option<Vec<i64>> = of(Kind::Ints { min: 0, max: i64::MAX }),
        /// smallest timestep; not with list
        min: i64 = at_least(0).or("0"),
        /// largest timestep; default: the model's last; not with list
        max: Option<i64> = at_least(0),
        /// lambda(t) on the logit, from 1 at low to 2 at high noise; not with sft and mapo
        weighting: TimestepWeighting = one_of::<TimestepWeighting>().or_text("none"),
    }
}

/// `timesteps.law` and the keys that only it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "law", rename_all = "snake_case")]
pub enum LawConfig {
    Uniform { min: i64, max: i64 },
    Discounted { gamma: f64, n_bins: i64, min: i64, max: i64 },
    List { values: Vec<i64> },
}

impl LawConfig {
    /// The law in the unit of the model's noise process.
    pub fn law(&self) -> TimestepLaw {
        match self {
            Self::Uniform { min, max } => TimestepLaw::Uniform { min: *min as f64, max: *max as f64 },
            Self::Discounted { gamma, n_bins, min, max } => {
                TimestepLaw::Discounted { gamma: *gamma, n_bins: *n_bins, min: *min as f64, max: *max as f64 }
            }
            Self::List { values } => TimestepLaw::List(values.iter().map(|t| *t as f64).collect()),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TimestepsConfig {
    #[serde(flatten)]
    pub law: LawConfig,
    pub weighting: TimestepWeighting,
}

impl Parsed {
    pub(in crate::settings) fn resolve(&self, facts: &Facts) -> Result<TimestepsConfig, Refusal> {
        let last = facts.timesteps - 1;
        let law = match (self.law, &self.values) {
            (Law::List, values) => list(values.clone().unwrap_or_default(), last)?,
            (Law::Uniform, _) => {
                let (min, max) = self.range(last)?;
                LawConfig::Uniform { min, max }
            }
            (Law::Discounted, _) => {
                let (min, max) = self.range(last)?;
                LawConfig::Discounted { gamma: self.gamma, n_bins: self.n_bins, min, max }
            }
        };
        Ok(TimestepsConfig { law, weighting: self.weighting })
    }

    fn range(&self, last: i64) -> Result<(i64, i64), Refusal> {
        let (min, max) = (self.min, self.max.unwrap_or(last));
        if max > last {
            return Err(format!("timesteps.max = {max}: expected at most {last}, the last timestep of this model."));
        }
        if min > max {
            return Err(format!("timesteps.min = {min}, timesteps.max = {max}: expected min to be at most max."));
        }
        Ok((min, max))
    }
}

fn list(values: Vec<i64>, last: i64) -> Result<LawConfig, Refusal> {
    match values.iter().find(|t| **t > last) {
        _ if values.is_empty() => Err("timesteps.values = []: expected at least one timestep.".into()),
        Some(t) => Err(format!("timesteps.values: {t} is outside of this model's timesteps, 0 to {last}.")),
        None => Ok(LawConfig::List { values }),
    }
}
