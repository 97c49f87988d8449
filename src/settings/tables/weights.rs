//! [weights]: loss weights that follow from the data.

use crate::data::weights::{WeightSource, Weighting};
use crate::keys::{Range, one_of, switch, within};
use serde::{Deserialize, Serialize};

crate::choice! {
    /// `[weights] source`
    pub enum Source {
        None = "none",
        Column = "column",
        VideoDpo = "videodpo",
    }
}

crate::keys! {
    pub struct Parsed {
        /// loss weights of pairs: column: `weight` of the row; videodpo: (c / `weight`)^b; 1 where a row has none
        source: Source = one_of::<Source>().or_text("none"),
        /// videodpo
        b: f64 = within(Range::NOT_NEGATIVE).or("1.0"),
        /// videodpo; usually the largest weight of the data
        c: f64 = within(Range::POSITIVE).or("0.72"),
        /// weights as they are, not divided by their mean; also for methods that weigh their losses themselves
        as_published: bool = switch().or("false"),
    }
}

/// `weights.source` and the keys that only it reads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub enum WeightsFrom {
    None,
    Column,
    VideoDpo { b: f64, c: f64 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WeightsConfig {
    #[serde(flatten)]
    pub from: WeightsFrom,
    pub as_published: bool,
}

impl WeightsConfig {
    /// Loss weights that follow from the data; `None` without any.
    pub fn of_data(&self) -> Option<Weighting> {
        let source = match self.from {
            WeightsFrom::None => return None,
            WeightsFrom::Column => WeightSource::Column,
            WeightsFrom::VideoDpo { b, c } => WeightSource::VideoDpo { b, c },
        };
        Some(Weighting { source, as_published: self.as_published })
    }
}

impl Parsed {
    pub(in crate::settings) fn resolve(&self) -> WeightsConfig {
        let from = match self.source {
            Source::None => WeightsFrom::None,
            Source::Column => WeightsFrom::Column,
            Source::VideoDpo => WeightsFrom::VideoDpo { b: self.b, c: self.c },
        };
        WeightsConfig { from, as_published: self.as_published }
    }
}
