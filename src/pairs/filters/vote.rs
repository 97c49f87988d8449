//! The majority vote of BalancedDPO (arXiv 2503.12575): label = sign( sum_k w_k sign(S_k(w) - S_k(l)) ).

use crate::pairs::reason::Reason;
use std::cmp::Ordering;

/// (winner's, loser's) numbers by measure.
pub fn refusal(pairs: &[(f64, f64)], weights: &[f64]) -> Option<Reason> {
    let vote = |((w, l), weight): (&(f64, f64), &f64)| match w.total_cmp(l) {
        Ordering::Greater => *weight,
        Ordering::Equal => 0.0,
        Ordering::Less => -weight,
    };
    let votes: f64 = pairs.iter().zip(weights).map(vote).sum();
    match votes.total_cmp(&0.0) {
        Ordering::Greater => None,
        Ordering::Equal => Some(Reason::VoteTied),
        Ordering::Less => Some(Reason::VoteAgainst),
    }
}
