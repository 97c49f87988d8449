//! `diffpref pairs`: rated candidates of prompts to pairs, ranked lists, or pairs to be annotated.

mod calibrate;
mod calibration;
mod candidates;
mod combine;
mod filters;
mod majority;
mod measures;
mod output;
mod own;
mod reason;
mod refresh;
mod replay;
mod report;
mod request;
mod rules;
mod run;
mod strength;
mod summary;
mod vote;
mod votes;
mod weights;

pub use combine::Combination;
pub use filters::Requirement;
pub use measures::By;
pub use own::{Consistency, Earlier, Labelled, OwnLabels, Ranker, Ranking};
pub use reason::{Dropped, Reason};
pub use refresh::FILE as REFRESH;
pub use replay::Replay;
pub use request::{Request, Ties};
pub use rules::Rule;
pub use run::pairs;
pub use strength::Strength;
pub use summary::{FILE as SUMMARY, Summary, VoteCounts};
