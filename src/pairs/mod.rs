//! `diffpref pairs`: rated candidates of prompts to pairs, ranked lists, or pairs to be annotated.

mod calibrate;
mod calibration;
mod candidates;
mod combine;
mod filters;
mod majority;
mod measures;
mod output;
mod reason;
mod report;
mod rules;
mod run;
mod strength;
mod summary;
mod vote;
mod votes;

pub use combine::Combination;
pub use filters::Requirement;
pub use measures::By;
pub use reason::{Dropped, Reason};
pub use rules::Rule;
pub use run::{Request, Ties, pairs};
pub use strength::Strength;
pub use summary::{Summary, VoteCounts};
