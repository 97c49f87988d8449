//! Rewards on held-out prompts with the same noise every time. They separate learning from the chance of an
//! iteration's prompts, which differ more than a model learns in many iterations (docs/train.md).

use super::asked::Told;
use super::course::Course;
use super::grid::Trajectory;
use super::held_out::HeldOut;
use super::measured::Measured;
use super::pictures::Studio;
use super::resources::Resources;
use super::trajectories::{advance, walk};
use crate::scorers::Ratings;
use anyhow::{Result, bail};
use std::cell::Cell;
use tch::Kind;

impl Course {
    /// Rewards of the held-out prompts with the current policy.
    ///
    /// # Errors
    /// `Stopped`; errors of networks or scorers.
    pub fn measure(&self, run: &Resources) -> Result<Measured> {
        let Resources { networks, folder, progress, stop, .. } = *run;
        let HeldOut { prompts, draws } = &self.held_out;
        let told = Told::of(prompts, networks, run.prompts, self.resolution)?;
        let studio = Studio::open(folder, self.vae.as_deref(), self.resolution, networks.machine, progress)?;
        let pictures = studio.pictures(&self.rewards, prompts);
        let guided = self.guided(&told);
        let asked = guided.asked(networks);
        let all: Vec<usize> = (0..prompts.len() * draws).collect();
        let calls = Cell::new(0);
        progress.begin("validate", 0, (all.len() * self.sampler.timesteps().len()) as u64);
        let on_call = |rows: usize| {
            calls.set(calls.get() + rows as u64);
            progress.advance(calls.get(), "");
            stop.requested().is_none()
        };
        let mut ratings = Ratings::default();
        for numbers in all.chunks(self.config.batch) {
            let batch: Vec<Trajectory> = numbers.iter().map(|index| self.held_out_trajectory(*index)).collect();
            let step = walk(&asked, &batch, &mut |_, step, noise| Ok(Some(advance(step, noise))), &on_call);
            let Some(finished) = step? else {
                progress.end();
                stop.check()?;
                bail!("validation ended without a signal");
            };
            let of: Vec<usize> = batch.iter().map(|trajectory| trajectory.prompt).collect();
            ratings.extend(pictures.rate_finished(&finished.to_kind(Kind::Float), &of)?);
        }
        progress.end();
        Ok(Measured::of(&self.rewards, *draws, &ratings))
    }

    /// Noise independent of the iteration.
    fn held_out_trajectory(&self, index: usize) -> Trajectory {
        let (prompt, j) = (index / self.held_out.draws, index % self.held_out.draws);
        let noise = self.draws.held_out(j, prompt, self.config.steps as usize, &self.shape);
        Trajectory { index, prompt, noise }
    }
}
