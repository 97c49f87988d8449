//! Training of preference scorers: a CLIP with a head (`heads/`) on judged pictures, as a library call without process
//! state.

mod captions;
mod checkpoint;
mod corpus;
mod ensemble;
mod figures;
mod finish;
mod learner;
mod line;
mod opened;
mod plan;
mod report;
mod run;
pub mod settings;
mod start;
mod towers;
mod work;

pub use figures::Figures;
pub use line::Line;
pub use plan::{Plan, dry_run};
pub use report::listed;
pub use run::{Finished, Host};
pub use settings::{Settings, load};

use crate::run_folder::Resume;
use anyhow::Result;

/// Trains the scorer of `settings`, or its ensemble.
///
/// # Errors
/// `Stopped` (the last finished step is checkpointed), `Halted` (the numbers diverged), errors of model, data or files.
pub fn train(settings: Settings, resume: Resume, host: &Host) -> Result<Finished> {
    match settings.train.members {
        1 => run::run(settings, None, resume, host),
        _ => ensemble::run(settings, resume, host),
    }
}
