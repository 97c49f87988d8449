//! Sampling one iteration: prompts, trajectories, pictures, rewards, units.

use super::asked::Told;
use super::candidates::{self, Branching, Pairs};
use super::kept::{Keeping, Kept, KeptUnit, Store};
use super::lists::DrawnList;
use super::pictures::Studio;
use super::recorded::Rule;
use super::report::{Report, diversity};
use super::trajectories::Trajectory;
use super::units::{Indices, of_candidates, of_lists, of_steps, of_trajectories};
use super::{Law, Resources, Rollout, Sampling, folder_name, trajectories};
use crate::machine::hashes;
use crate::objectives::numbers;
use crate::scorers::Ratings;
use crate::settings::Buffer;
use anyhow::{Context, Result, bail};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tch::{Kind, Tensor};

/// What the trajectories of an iteration have left.
struct Sampled {
    /// Of the pictures, `[C, h, w]` each, trajectory by trajectory.
    latents: Vec<Tensor>,
    ratings: Ratings,
    keeping: Keeping,
    indices: Indices,
    /// Where pairs are made while sampling.
    pairs: Pairs,
    /// Where lists are drawn ahead.
    lists: Vec<DrawnList>,
}

impl Rollout {
    /// Indices of the prompts of an iteration: passes over the file in orders of their own, without what a pass leaves over.
    fn chosen(&self, iteration: u64) -> Result<Vec<usize>> {
        let (n, per_iteration) = (self.prompts.len(), self.config.prompts_per_iteration);
        let in_pass = (n / per_iteration).max(1) as u64;
        let order = self.draws.choose(iteration / in_pass, "prompts", &[]).randperm(n as i64)?;
        let first = (iteration % in_pass) as usize * per_iteration;
        Ok(order[first..first + per_iteration].iter().map(|i| *i as usize).collect())
    }

    fn texts(&self, chosen: &[usize]) -> Vec<String> {
        chosen.iter().map(|prompt| self.prompts[*prompt].clone()).collect()
    }

    /// Embeddings of the iteration's prompts.
    pub(super) fn tell(&self, run: &Resources) -> Result<Told> {
        Told::of(&self.texts(&self.chosen(self.state.iteration)?), run.networks, run.prompts, self.resolution)
    }

    /// Samples the iteration in hand. It is taken over when it is whole; one that keeps nothing is passed over.
    pub(super) fn sample_iteration(&mut self, run: &Resources) -> Result<()> {
        let began = Instant::now();
        let iteration = self.state.iteration;
        let chosen = self.chosen(iteration)?;
        let told = self.tell(run)?;
        let evaluations = Cell::new(0u64);
        run.progress.begin("rollout", 0, self.calls());
        let sampled = self.sample(run, &told, &chosen, &evaluations);
        run.progress.end();
        let mut sampled = sampled?;
        sampled.keeping.store.flush()?;
        let files = self.hashes(&sampled.keeping.store)?;
        // From here on nothing fails: what advantages remember changes with the iteration, or not at all.
        let rewards = self.shaped(&sampled.ratings);
        let units = self.units(&chosen, &rewards, &mut sampled)?;
        let kept = sampled.keeping.kept.len();
        self.state.evaluations += evaluations.get();
        let report = Report {
            iteration,
            grid: self.grid(),
            prompts: &self.texts(&chosen),
            rewards: &self.rewards.weighted(&sampled.ratings),
            ratings: &sampled.ratings,
            names: &self.rewards.names(),
            watch_names: &self.rewards.watch_names(),
            drift: &sampled.keeping.drift,
            diversity: diversity(self.grid(), &sampled.latents),
            kept,
            units: units.len(),
            empty: self.state.empty,
            seconds: began.elapsed().as_secs_f64(),
        };
        self.state.report = Some(report.written());
        if units.is_empty() {
            self.state.iteration += 1;
            self.state.empty += 1;
            return Ok(());
        }
        let one_pass = (units.len() as u64).div_ceil(self.per_step);
        self.state.updates = self.config.updates_per_iteration.unwrap_or(one_pass);
        self.state.files = files;
        (self.state.kept, self.state.units) = (sampled.keeping.kept, units);
        (self.store, self.told) = (sampled.keeping.store, Some(told));
        Ok(())
    }

    /// Calls of the network for one trajectory of an iteration, all trajectories together: what progress counts.
    pub(super) fn calls(&self) -> u64 {
        let calls = self.sampler.timesteps().len();
        let ahead = match self.law {
            Law::Candidates(law) => {
                let after = |call: usize| (calls - call - 1).min(law.denoise_ahead + 1);
                (law.skip_steps..calls).map(|call| law.candidates * after(call)).sum()
            }
            _ => 0,
        };
        (self.grid().len() * (calls + ahead)) as u64
    }

    fn sample(&self, run: &Resources, told: &Told, chosen: &[usize], evaluations: &Cell<u64>) -> Result<Sampled> {
        let Resources { networks, folder, progress, stop, .. } = *run;
        let iteration = self.state.iteration;
        let texts = self.texts(chosen);
        let studio = Studio::open(folder, self.vae.as_deref(), self.resolution, networks.machine, progress)?;
        let pictures = studio.pictures(&self.rewards, &texts);
        let sampling = Sampling { sampler: &*self.sampler, guidance_scale: self.config.guidance_scale, told };
        let asked = sampling.asked(networks);
        let folder = (self.config.buffer == Buffer::Disk).then(|| self.folder_of(iteration));
        let mut out = Sampled {
            latents: Vec::new(),
            ratings: Ratings::default(),
            keeping: Keeping::new(Store::new(folder)?),
            indices: Indices::new(),
            pairs: Pairs::new(),
            lists: self.lists()?,
        };
        let wanted = self.wanted(&out.lists);
        let rule = Rule { other: self.needs.other, drift: self.needs.drift };
        let per_prediction = self.per_prediction();
        let calls = Cell::new(0u64);
        let on_call = |rows: usize| {
            calls.set(calls.get() + rows as u64);
            evaluations.set(evaluations.get() + rows as u64 * per_prediction);
            progress.advance(calls.get(), &format!("iteration {iteration}"));
            stop.requested().is_none()
        };
        let all: Vec<usize> = (0..self.grid().len()).collect();
        for numbers in all.chunks(self.config.batch) {
            let batch = &self.trajectories(chosen, numbers)[..];
            let Sampled { keeping, indices, pairs, .. } = &mut out;
            let finished = match self.law {
                Law::Candidates(law) => {
                    let branching = Branching {
                        law,
                        rule,
                        ahead: &*self.ahead,
                        pictures: &pictures,
                        draws: self.draws,
                        iteration,
                        grid: self.grid(),
                        prompts: chosen,
                    };
                    candidates::sample(&asked, batch, &branching, keeping, pairs, &on_call)?
                }
                _ => trajectories::sample(&asked, batch, &wanted, rule, keeping, indices, &on_call)?,
            };
            let Some(finished) = finished else {
                stop.check()?;
                bail!("sampling ended without a signal");
            };
            let prompts: Vec<usize> = batch.iter().map(|trajectory| trajectory.prompt).collect();
            refuse_not_finite(&finished, &prompts, &out.keeping.kept, &texts)?;
            out.ratings.extend(pictures.rate_finished(&finished, &prompts)?);
            out.latents.extend((0..batch.len() as i64).map(|row| finished.get(row).to_kind(Kind::Float)));
            out.keeping.store.flush()?;
        }
        evaluations.set(evaluations.get() + out.keeping.asked_start as u64 * per_prediction);
        Ok(out)
    }

    /// Trajectories by their numbers in the iteration, with their noise: made batch by batch, as it is larger than what a
    /// buffer on disk leaves in memory.
    fn trajectories(&self, chosen: &[usize], numbers: &[usize]) -> Vec<Trajectory> {
        let (iteration, steps) = (self.state.iteration, self.config.steps as usize);
        let drawn = |prompt: usize, j: usize| self.draws.rollout(iteration, j, chosen[prompt], steps, &self.shape);
        let one = |index: &usize| {
            let (prompt, j) = self.grid().place(*index);
            let noise = drawn(prompt, j);
            if matches!(self.law, Law::Trajectories) && j > 0 {
                // Both trajectories of a pair start from one noise.
                noise.get(0).copy_(&drawn(prompt, 0).get(0));
            }
            Trajectory { index: *index, prompt, noise }
        };
        numbers.iter().map(one).collect()
    }

    /// Which transitions of whole trajectories training will read.
    fn wanted(&self, lists: &[DrawnList]) -> impl Fn(usize, usize) -> bool + use<> {
        let noisy: Vec<bool> = (0..self.sampler.timesteps().len()).map(|call| self.sampler.adds_noise(call)).collect();
        let mut drawn = BTreeSet::new();
        for list in lists {
            for trajectory in list.trajectories.iter().map(|j| self.grid().index(list.prompt, *j)) {
                drawn.extend(list.calls.iter().map(|call| (trajectory, *call)));
            }
        }
        let all = !matches!(self.law, Law::Lists(_));
        move |trajectory, call| noisy[call] && (all || drawn.contains(&(trajectory, call)))
    }

    /// The lists that the updates of the iteration will read.
    fn lists(&self) -> Result<Vec<DrawnList>> {
        let Law::Lists(law) = self.law else { return Ok(Vec::new()) };
        let updates = self.config.updates_per_iteration.unwrap_or(1);
        law.draw(&self.draws, self.state.iteration, (updates * self.per_step) as usize)
    }

    /// Rewards of the trajectories, shaped prompt by prompt.
    fn shaped(&self, ratings: &Ratings) -> Vec<f64> {
        let grid = self.grid();
        let of_prompt = |prompt: usize| {
            let rows: Vec<usize> = (0..grid.per_prompt).map(|j| grid.index(prompt, j)).collect();
            self.rewards.shaped(&ratings.select(&rows))
        };
        (0..grid.prompts).flat_map(of_prompt).collect()
    }

    fn units(&mut self, chosen: &[usize], rewards: &[f64], sampled: &mut Sampled) -> Result<Vec<KeptUnit>> {
        let (grid, indices) = (self.grid(), &sampled.indices);
        Ok(match self.law {
            Law::Steps => {
                let advantages = self.state.advantages.as_mut().context("the method has no advantages")?;
                of_steps(grid, chosen, rewards, indices, advantages)
            }
            Law::Trajectories => of_trajectories(grid, rewards, indices),
            Law::Candidates(_) => of_candidates(std::mem::take(&mut sampled.pairs)),
            Law::Lists(_) => of_lists(grid, rewards, indices, &sampled.lists),
        })
    }

    /// SHA-256 of the files of a buffer on disk.
    fn hashes(&self, store: &Store) -> Result<BTreeMap<String, String>> {
        let folder = folder_name(self.state.iteration);
        let one = |path: std::path::PathBuf| {
            let name = path.file_name().context("a file of the buffer has no name")?.to_string_lossy().into_owned();
            Ok((format!("{folder}/{name}"), hashes::of_file(&path)?))
        };
        store.paths()?.into_iter().map(one).collect()
    }
}

/// Latents of pictures `[B, C, h, w]` or probabilities that are not finite are nothing to learn from, and no checkpoint
/// could hold them. `prompts`: of the pictures, places in `texts`.
fn refuse_not_finite(finished: &Tensor, prompts: &[usize], kept: &[Kept], texts: &[String]) -> Result<()> {
    let whole = numbers(&finished.isfinite().flatten(1, -1).all_dim(1, false));
    let latents = prompts.iter().zip(whole).find(|(_, whole)| *whole == 0.0).map(|(prompt, _)| ("latents", *prompt));
    let probability = || kept.iter().find(|kept| !kept.log_prob.is_finite()).map(|kept| ("a probability", kept.prompt));
    if let Some((what, prompt)) = latents.or_else(probability) {
        bail!(
            "{what} of a picture for the prompt {:?} left the range of numbers. Start another run with a lower optim.lr or in float32",
            texts[prompt]
        );
    }
    Ok(())
}
