//! Labellers and raters of a run's training data, and the data itself.

use crate::progress::Progress;
use crate::scorers::labelled_by::{Labeller, labellers, own_labels, raters};
use crate::scorers::{DataFile, ScorerSpec};
use crate::settings::{Items, Settings};
use anyhow::Result;

/// Labels, rewards and data that a model was taught by. A scorer among it is no independent judge.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Teachers {
    /// Judges of the training labels or of the rewards.
    pub labellers: Vec<Labeller>,
    /// The training data, which a scorer may have been trained on too.
    pub data: Option<DataFile>,
}

impl Teachers {
    /// The scorers of a run that sampled; else its data and the labellers of that, if the data still exists.
    ///
    /// # Errors
    /// A damaged `labelled-by.json`; unreadable weights.
    pub fn of(config: &Settings, progress: &dyn Progress) -> Result<Self> {
        if let Some(reward) = &config.reward {
            let labellers = raters(reward.teachers())?;
            return Ok(Self { labellers, data: None });
        }
        let Some(Items { path, labels, .. }) = &config.data.items else {
            return Ok(Self::default()); // trained on rollouts without labels
        };
        if path.exists() {
            return Ok(Self { labellers: labellers(path, labels)?, data: Some(DataFile::of(path)?) });
        }
        progress.line(&format!(
            "the data of the run is no longer at {}: whether a scorer of this evaluation labelled it is unknown",
            path.display()
        ));
        Ok(Self::default())
    }

    /// Warnings about a scorer.
    ///
    /// # Errors
    /// Unreadable weights, a damaged scorer.json.
    pub fn warnings(&self, scorer: &ScorerSpec) -> Result<Vec<String>> {
        let labelled = own_labels(scorer, &self.labellers)?;
        let taught = self.data.as_ref().map(|data| data.taught(scorer)).transpose()?.flatten();
        Ok(labelled.into_iter().chain(taught).collect())
    }
}
