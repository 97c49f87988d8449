//! The evaluations that a report shows.

use crate::metrics::evaluation::Evaluation;
use crate::metrics::implicit::PairEvaluation;

/// Figures of evaluations; either may be absent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evaluations<'a> {
    /// On prompts, by scorers.
    pub pictures: Option<&'a Evaluation>,
    /// On pairs, without generation.
    pub pairs: Option<&'a PairEvaluation>,
}
