//! Warning of reward hacking while a run samples and trains.

use crate::metrics::Line;
use crate::report::State;
use crate::report::metrics::Metrics;
use crate::report::rewards::judge;
use anyhow::Result;
use std::path::Path;

/// Warning of a hacked reward in a running run, given once.
#[derive(Debug)]
pub struct HackGuard {
    lines: Metrics,
    said: bool,
}

impl HackGuard {
    /// Reads the lines of `metrics` so far.
    ///
    /// # Errors
    /// A line that is not a metrics line.
    pub fn open(metrics: &Path) -> Result<Self> {
        Ok(Self { lines: Metrics::read(metrics)?, said: false })
    }

    /// Adds the line of a step. The first line of an iteration may return the warning.
    pub fn observe(&mut self, line: &Line) -> Option<String> {
        if self.said || line.rollout_reward.is_none() {
            return None;
        }
        self.lines.push(line.clone());
        let (state, reasons) = judge(&self.lines)?;
        self.said = state == State::RewardHacked;
        self.said.then(|| format!("warning: the reward is being hacked: {} Look at the samples.", reasons.join(" ")))
    }
}
