//! State kept between steps.

use super::guards::{Beta, SpikeGuard};
use crate::objectives::statistics::Running;
use serde::{Deserialize, Serialize};

/// Part of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub beta: Beta,
    pub guard: SpikeGuard,
    #[serde(default)]
    pub statistics: Statistics,
}

/// Statistics of the objective over past steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    pub statistic: Running,
    pub weight: Running,
}
