//! Units of work: what a worker claims.

use super::plan::{Made, Plan};

crate::choice! {
    /// Part of a trial.
    #[derive(Default, PartialOrd, Ord)]
    pub enum Stage {
        #[default]
        Train = "train",
        /// The evaluation that chooses between the points of a method.
        Choose = "choose",
        /// The evaluation of the answer.
        Judge = "judge",
    }
}

/// A unit of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work {
    /// Number of the trial.
    pub trial: usize,
    pub stage: Stage,
    /// Rung of a training; 0 without successive halving.
    pub rung: usize,
}

impl Work {
    pub fn train(trial: usize, rung: usize) -> Self {
        Self { trial, stage: Stage::Train, rung }
    }

    pub fn judge(trial: usize) -> Self {
        Self { trial, stage: Stage::Judge, rung: 0 }
    }

    pub fn choose(trial: usize) -> Self {
        Self { trial, stage: Stage::Choose, rung: 0 }
    }

    /// Every unit that a plan may need, in the order of trials.
    pub fn all(plan: &Plan, judged: bool) -> Vec<Self> {
        let mut all = Vec::new();
        for trial in &plan.trials {
            if trial.trains() {
                all.extend((0..plan.rungs.len()).map(|rung| Self::train(trial.number, rung)));
            }
            if trial.chooses {
                all.push(Self::choose(trial.number));
            }
            let composed = matches!(plan.points[trial.point].made, Made::Composed { .. });
            if judged && (trial.judges || composed) {
                all.push(Self::judge(trial.number));
            }
        }
        all
    }

    /// "trial 3, train"
    pub fn title(&self) -> String {
        match self.rung {
            0 => format!("trial {}, {}", self.trial, self.stage),
            rung => format!("trial {}, {}, rung {rung}", self.trial, self.stage),
        }
    }
}
