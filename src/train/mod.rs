//! Training as a library call without process state. Generators are values, signals and threads belong to the CLI, and
//! progress goes to a sink.
//!
//! A step has four movements ([`learner::Learner`]): partial, merge, decide, apply.

mod build;
pub mod checkpoint;
mod criterion;
mod environment;
mod feed;
mod finish;
#[cfg(test)]
mod flow_tests;
mod forecast;
mod forward;
pub mod guards;
mod hack_guard;
mod history;
mod host;
mod items;
mod learner;
mod ledger;
mod line;
mod opened;
mod outputs;
mod partial;
mod pass;
pub mod plan;
mod prompt_batches;
mod prompts;
mod records;
mod resident;
mod run;
mod run_dir;
mod samples;
mod session;
mod split;
pub mod tensorboard;
mod truncated;
mod units;
mod validation;

pub use host::Host;
pub use opened::{Opened, open};
pub use resident::Resident;
pub use run::{Outcome, run};
