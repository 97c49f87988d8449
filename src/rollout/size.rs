//! How much an iteration may keep, and whether there is room for it.

use super::Rollout;
use super::law::Law;
use crate::machine::bytes::in_words;
use crate::machine::disk::check_space;
use crate::machine::memory;
use crate::settings::{Buffer, ConfigError};
use anyhow::Result;
use tch::Device;

impl Rollout {
    /// Rows of latents that an iteration keeps at most.
    fn rows(&self) -> u64 {
        let (grid, calls) = (self.grid().len() as u64, self.sampler.noisy_calls() as u64);
        // With the drift the start model's prediction stands beside every state that a kept step leaves from.
        let drift = u64::from(self.needs.drift);
        let whole = grid * (calls + 1 + calls * drift);
        match self.law {
            Law::Steps | Law::Trajectories => whole,
            Law::Candidates(law) => {
                let branching = (self.sampler.timesteps().len().saturating_sub(law.skip_steps)) as u64;
                grid * branching * (3 + drift)
            }
            Law::Lists(law) => {
                let lists = self.config.updates_per_iteration.unwrap_or(1).saturating_mul(self.per_step);
                let drawn = lists.saturating_mul((law.trajectories_per_loss * law.sampled_steps) as u64);
                whole.min(drawn.saturating_mul(2 + drift))
            }
        }
    }

    /// Network evaluations to sample an iteration, at most.
    pub fn evaluations(&self) -> u64 {
        let (grid, calls) = (self.grid().len() as u64, self.sampler.noisy_calls() as u64);
        // The start model is asked once for every state that is kept.
        let start = if self.needs.reference() { grid * calls } else { 0 };
        (self.calls() + start) * self.per_prediction()
    }

    /// Where the buffer lies.
    pub fn buffer(&self) -> Buffer {
        self.config.buffer
    }

    /// Bytes that the buffer of an iteration takes at most.
    pub fn buffer_bytes(&self) -> u64 {
        self.rows().saturating_mul(self.shape.iter().product::<i64>() as u64 * 4)
    }

    /// A buffer that does not fit is refused before anything is sampled.
    pub(super) fn refuse_too_large(&self) -> Result<()> {
        let bytes = self.buffer_bytes();
        if self.config.buffer == Buffer::Disk {
            let remedy = "or lower rollout.prompts_per_iteration, rollout.trajectories or rollout.steps";
            return check_space(&self.run, bytes, "rollout.buffer = \"disk\"", remedy);
        }
        match memory::on(Device::Cpu) {
            Some(free) if bytes > free => Err(ConfigError(format!(
                "rollout.buffer = \"memory\": what an iteration keeps takes up to {}, and {} are free. Set rollout.buffer = \"disk\", or lower rollout.prompts_per_iteration, rollout.trajectories or rollout.steps.",
                in_words(bytes),
                in_words(free)
            ))
            .into()),
            _ => Ok(()),
        }
    }
}
