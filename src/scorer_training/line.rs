//! Metrics line of a step: one JSON object per line of metrics.jsonl. No number depends on a clock.

use super::figures::Figures;
use serde::{Deserialize, Serialize};

/// Metrics of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub step: u64,
    pub loss: f64,
    pub lr: f64,
    /// Norm of all gradients of the step before clipping.
    pub grad_norm: f64,
    /// lambda of every data set (method more).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lambda: Vec<f64>,
    /// exp(logit_scale) after the step.
    pub scale: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Figures>,
}
