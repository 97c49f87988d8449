//! Labellers and raters of a run's training data.

use crate::progress::Progress;
use crate::scorers::labelled_by::{Labeller, labellers, raters};
use crate::settings::{Items, Settings};
use anyhow::Result;

/// The scorers of a run that sampled; else the labellers of its data, if the data still exists.
///
/// # Errors
/// A damaged `labelled-by.json`; unreadable weights.
pub fn labellers_of(config: &Settings, progress: &dyn Progress) -> Result<Vec<Labeller>> {
    if let Some(reward) = &config.reward {
        return raters(reward.scorers.iter().map(|weighted| &weighted.rated.scorer));
    }
    let Some(Items { path, labels, .. }) = &config.data.items else {
        return Ok(Vec::new()); // trained on rollouts without labels
    };
    if path.exists() {
        return labellers(path, labels);
    }
    progress.line(&format!(
        "the data of the run is no longer at {}: whether a scorer of this evaluation labelled it is unknown",
        path.display()
    ));
    Ok(Vec::new())
}
