//! Folders of runs: lock, metrics file, and checkpoints that appear by rename.

pub mod checkpoints;
mod folder;
mod metrics_file;

pub use folder::{Busy, FINAL, METRICS, RESOLVED, Resume, RunDir, holds_steps};
pub use metrics_file::MetricsFile;
