//! Rewards on prompts that are not trained on, with the same noise every time: what tells learning from the luck of an
//! iteration's prompts, which differ more than a model learns in many iterations (docs/train.md).

use super::asked::Told;
use super::batch::Sampling;
use super::pictures::Studio;
use super::trajectories::{Trajectory, advance, walk};
use super::{Resources, Rollout};
use crate::metrics::{interval, mean, put};
use crate::scorers::Ratings;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::collections::BTreeMap;
use tch::Kind;

/// [validate] of a method that samples.
#[derive(Debug, Clone, Default)]
pub struct HeldOut {
    pub prompts: Vec<String>,
    /// Trajectories of each.
    pub draws: usize,
}

/// What the pictures of held-out prompts are worth: "reward" (the weighted sum, not shaped), "score_NAME" and "watch_NAME", a
/// mean of every prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured(BTreeMap<String, Vec<f64>>);

impl Measured {
    /// `ratings` of all trajectories, those of a prompt one after the other.
    fn of(rollout: &Rollout, ratings: &Ratings) -> Self {
        let by_prompt = |values: &[f64]| values.chunks(rollout.held_out.draws).filter_map(mean).collect::<Vec<f64>>();
        let mut out = BTreeMap::from([("reward".to_string(), by_prompt(&rollout.rewards.weighted(ratings)))]);
        let (names, watched) = (rollout.rewards.names(), rollout.rewards.watch_names());
        for (prefix, names, scores) in [("score", names, &ratings.scores), ("watch", watched, &ratings.watch)] {
            out.extend(names.iter().zip(scores).map(|(name, of)| (format!("{prefix}_{name}"), by_prompt(of))));
        }
        Self(out)
    }

    /// val_NAME, and how far it lies above the start model's: val_NAME_gain, with its 95 % interval over prompts, which are
    /// paired.
    fn against(&self, start: &Self) -> Map<String, Value> {
        let mut out = Map::new();
        for (name, now) in &self.0 {
            put(&mut out, &format!("val_{name}"), mean(now));
            let Some(then) = start.0.get(name).filter(|then| then.len() == now.len()) else { continue };
            let gains: Vec<f64> = now.iter().zip(then).map(|(now, then)| now - then).collect();
            put(&mut out, &format!("val_{name}_gain"), mean(&gains));
            if let Some((low, high)) = interval(&gains) {
                put(&mut out, &format!("val_{name}_gain_lo"), Some(low));
                put(&mut out, &format!("val_{name}_gain_hi"), Some(high));
            }
        }
        out
    }
}

impl Rollout {
    /// Whether there are prompts to validate on.
    pub fn holds_out(&self) -> bool {
        !self.held_out.prompts.is_empty()
    }

    /// Measures the model before anything is trained.
    ///
    /// # Errors
    /// As of [`validate`](Self::validate).
    pub fn measure_start(&mut self, run: &Resources) -> Result<()> {
        self.state.start = Some(self.measure(run)?);
        Ok(())
    }

    /// The metrics of a validated step; none where the start was not measured.
    ///
    /// # Errors
    /// `Stopped`; what networks or scorers refuse.
    pub fn validate(&self, run: &Resources) -> Result<Map<String, Value>> {
        let Some(start) = &self.state.start else { return Ok(Map::new()) };
        Ok(self.measure(run)?.against(start))
    }

    fn measure(&self, run: &Resources) -> Result<Measured> {
        let Resources { networks, folder, progress, stop, .. } = *run;
        let HeldOut { prompts, draws } = &self.held_out;
        let told = Told::of(prompts, networks, run.prompts, self.resolution)?;
        let studio = Studio::open(folder, self.vae.as_deref(), self.resolution, networks.machine, progress)?;
        let pictures = studio.pictures(&self.rewards, prompts);
        let sampling = Sampling { sampler: &*self.sampler, guidance_scale: self.config.guidance_scale, told: &told };
        let asked = sampling.asked(networks);
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
        Ok(Measured::of(self, &ratings))
    }

    /// The same noise whatever the iteration.
    fn held_out_trajectory(&self, index: usize) -> Trajectory {
        let (prompt, j) = (index / self.held_out.draws, index % self.held_out.draws);
        let noise = self.draws.held_out(j, prompt, self.config.steps as usize, &self.shape);
        Trajectory { index, prompt, noise }
    }
}
