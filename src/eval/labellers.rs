//! Labellers and raters of a run's training data.

use crate::progress::Progress;
use crate::scorers::labelled_by::{Labeller, labellers, raters};
use crate::settings::Config;
use anyhow::Result;

/// The scorers of a run that sampled; else the labellers of its data, if the data still exists.
///
/// # Errors
/// A damaged `labelled-by.json`; unreadable weights.
pub fn labellers_of(config: &Config, progress: &dyn Progress) -> Result<Vec<Labeller>> {
    if let Some(reward) = &config.reward {
        return raters(reward.scorers.iter().map(|weighted| &weighted.scorer));
    }
    let path = &config.data.path;
    if path.as_os_str().is_empty() {
        return Ok(Vec::new()); // trained on rollouts without labels
    }
    if path.exists() {
        return labellers(path, &config.data.labels);
    }
    progress.line(&format!(
        "the data of the run is no longer at {}: whether a scorer of this evaluation labelled it is unknown",
        path.display()
    ));
    Ok(Vec::new())
}
