//! The multi-objective filter of VisionReward (arXiv 2412.21059): no confounded pairs.

use crate::pairs::reason::Reason;

/// (winner's, loser's) numbers by measure: w >= l in every one and w > l in one.
pub fn refusal(pairs: &[(f64, f64)]) -> Option<Reason> {
    let dominates = pairs.iter().all(|(w, l)| w >= l) && pairs.iter().any(|(w, l)| w > l);
    (!dominates).then_some(Reason::NotPareto)
}
