//! Pairs that a model labels itself: its own rewards of its candidates, and how far another ranking agrees.

mod consistency;
mod labels;

pub use consistency::Consistency;
pub use labels::{Earlier, Labelled, OwnLabels, Ranker, Ranking, SCORER, label};
