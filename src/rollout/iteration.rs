//! Sampling one iteration: prompts, trajectories, pictures, rewards, units.

use super::advantages::Advantages;
use super::asked::Told;
use super::course::Course;
use super::grid::{Indices, Trajectory};
use super::kept::{Keeping, Kept, KeptUnit, Store};
use super::maker::{Found, Iteration, Pairs, Rewarded, Sampling};
use super::pictures::{Pictures, Studio};
use super::recorded::Rule;
use super::report::{Report, SampledMetrics, diversity};
use super::resources::Resources;
use super::state::folder_name;
use crate::machine::hashes;
use crate::objectives::numbers;
use crate::scorers::Ratings;
use crate::settings::Buffer;
use anyhow::{Context, Result, bail};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use tch::{Kind, Tensor};

/// A sampled iteration. The run is unchanged so far.
pub struct Sampled {
    pub kept: Vec<Kept>,
    pub store: Store,
    pub units: Vec<KeptUnit>,
    pub told: Told,
    pub advantages: Option<Advantages>,
    pub report: SampledMetrics,
    /// SHA-256 of the files of a buffer on disk, by their path in the run folder.
    pub files: BTreeMap<String, String>,
    /// Its number of network evaluations.
    pub evaluations: u64,
}

/// Finished trajectories with their ratings.
struct Rated {
    /// Latents of the pictures, `[C, h, w]` each, trajectory by trajectory.
    latents: Vec<Tensor>,
    ratings: Ratings,
    found: Found,
}

impl Course {
    /// Samples iteration `number`. `advantages`: memory of earlier rewards. `empty`: iterations just before this one
    /// without kept units.
    ///
    /// # Errors
    /// `Stopped`; errors of networks, scorers or the disk; numbers that are not finite.
    pub fn sample(&self, run: &Resources, number: u64, advantages: &Option<Advantages>, empty: u64) -> Result<Sampled> {
        let began = Instant::now();
        let chosen = self.chosen(number)?;
        let iteration = self.iteration(number, &chosen);
        let told = self.tell(&chosen, run)?;
        let evaluations = Cell::new(0u64);
        run.progress.begin("rollout", 0, self.calls());
        let rated = self.rated(run, &told, &iteration, &evaluations);
        run.progress.end();
        let Rated { latents, ratings, mut found } = rated?;
        found.keeping.store.flush()?;
        let files = files_of(&found.keeping.store, number)?;
        let mut advantages = advantages.clone();
        let (rewards, each) = self.shaped(&ratings);
        let rewarded = Rewarded { rewards: &rewards, each: &each, weights: &self.rewards.weights() };
        let units = self.maker.make(&iteration, &rewarded, &mut found, &mut advantages)?;
        let report = Report {
            iteration: number,
            grid: iteration.grid,
            prompts: &self.texts(&chosen),
            rewards: &self.rewards.weighted(&ratings),
            ratings: &ratings,
            names: &self.rewards.names(),
            watch_names: &self.rewards.watch_names(),
            drift: &found.keeping.drift,
            diversity: diversity(iteration.grid, &latents),
            kept: found.keeping.kept.len(),
            units: units.len(),
            idle_groups: found.idle_groups,
            empty,
            seconds: began.elapsed().as_secs_f64(),
        };
        let report = report.metrics();
        let Keeping { kept, store, .. } = found.keeping;
        Ok(Sampled { kept, store, units, told, advantages, report, files, evaluations: evaluations.get() })
    }

    fn rated(&self, run: &Resources, told: &Told, iteration: &Iteration, evaluations: &Cell<u64>) -> Result<Rated> {
        let Resources { networks, folder, progress, stop, .. } = *run;
        let texts = self.texts(iteration.prompts);
        let studio = Studio::open(folder, self.vae.as_deref(), self.resolution, networks.machine, progress)?;
        let pictures = studio.pictures(&self.rewards, &texts);
        let guided = self.guided(told);
        let on_disk = self.config.buffer == Buffer::Disk;
        let store = Store::new(on_disk.then(|| self.folder_of(iteration.number)))?;
        let found =
            Found { keeping: Keeping::new(store), indices: Indices::new(), pairs: Pairs::new(), idle_groups: None };
        let mut out = Rated { latents: Vec::new(), ratings: Ratings::default(), found };
        let per_prediction = self.per_prediction();
        let calls = Cell::new(0u64);
        let on_call = |rows: usize| {
            calls.set(calls.get() + rows as u64);
            evaluations.set(evaluations.get() + rows as u64 * per_prediction);
            progress.advance(calls.get(), &format!("iteration {}", iteration.number));
            stop.requested().is_none()
        };
        let (noisy, drawn) = (self.noisy(), self.maker.wanted(iteration)?);
        let sampling = Sampling {
            asked: &guided.asked(networks),
            ahead: &*self.ahead,
            pictures: &pictures,
            rule: Rule::of(&self.needs),
            iteration: *iteration,
            wanted: &|trajectory, call| {
                noisy[call] && drawn.as_ref().is_none_or(|drawn| drawn.contains(&(trajectory, call)))
            },
            on_call: &on_call,
        };
        let all: Vec<usize> = (0..iteration.grid.len()).collect();
        for numbers in all.chunks(self.config.batch) {
            let batch = &self.trajectories(iteration, numbers)[..];
            let Some(finished) = self.maker.sample(batch, &sampling, &mut out.found)? else {
                stop.check()?;
                bail!("sampling ended without a signal");
            };
            let prompts: Vec<usize> = batch.iter().map(|trajectory| trajectory.prompt).collect();
            refuse_not_finite(&finished, &prompts, &out.found.keeping.kept, &texts)?;
            out.ratings.extend(pictures.rate_finished(&finished, &prompts)?);
            out.latents.extend((0..batch.len() as i64).map(|row| finished.get(row).to_kind(Kind::Float)));
            out.found.keeping.store.flush()?;
        }
        evaluations.set(evaluations.get() + out.found.keeping.asked_start as u64 * per_prediction);
        if self.rewards.compares() {
            self.compare(&pictures, &mut out)?;
        }
        Ok(out)
    }

    /// Adds the win rates of judges that compare, which take all pictures of a prompt.
    fn compare(&self, pictures: &Pictures, out: &mut Rated) -> Result<()> {
        let per_prompt = self.grid().per_prompt;
        for (prompt, group) in out.latents.chunks(per_prompt).enumerate() {
            let found = pictures.compare(&Tensor::f_stack(group, 0)?, prompt, self.config.batch)?;
            for (row, wins) in out.ratings.judged.iter_mut().zip(found) {
                row.extend(wins);
            }
        }
        Ok(())
    }

    /// Calls of the sampler with noise.
    fn noisy(&self) -> Vec<bool> {
        (0..self.sampler.timesteps().len()).map(|call| self.sampler.adds_noise(call)).collect()
    }

    /// The folder of a buffer on disk.
    pub fn folder_of(&self, iteration: u64) -> PathBuf {
        self.run.join(folder_name(iteration))
    }

    /// Trajectories by their numbers in the iteration, with their noise. They are made batch by batch, because the
    /// noise is larger than the memory left by a buffer on disk.
    fn trajectories(&self, iteration: &Iteration, numbers: &[usize]) -> Vec<Trajectory> {
        let (number, steps, chosen) = (iteration.number, self.config.steps as usize, iteration.prompts);
        let drawn = |prompt: usize, j: usize| self.draws.rollout(number, j, chosen[prompt], steps, &self.shape);
        let shared = self.config.shared_noise.unwrap_or(self.needs.units.rules().shared_noise);
        let one = |index: &usize| {
            let (prompt, j) = self.grid().place(*index);
            let noise = drawn(prompt, j);
            if shared && j > 0 {
                noise.get(0).copy_(&drawn(prompt, 0).get(0));
            }
            Trajectory { index: *index, prompt, noise }
        };
        numbers.iter().map(one).collect()
    }

    /// Rewards of the trajectories, and those of every scorer, shaped prompt by prompt.
    fn shaped(&self, ratings: &Ratings) -> (Vec<f64>, Vec<Vec<f64>>) {
        let grid = self.grid();
        let (mut rewards, mut each) = (Vec::new(), vec![Vec::new(); self.rewards.weights().len()]);
        for prompt in 0..grid.prompts {
            let rows: Vec<usize> = (0..grid.per_prompt).map(|j| grid.index(prompt, j)).collect();
            let group = ratings.select(&rows);
            rewards.extend(self.rewards.shaped(&group));
            each.iter_mut().zip(self.rewards.each_shaped(&group)).for_each(|(all, own)| all.extend(own));
        }
        (rewards, each)
    }
}

/// SHA-256 of the files of a buffer on disk.
fn files_of(store: &Store, iteration: u64) -> Result<BTreeMap<String, String>> {
    let folder = folder_name(iteration);
    let one = |path: PathBuf| {
        let name = path.file_name().context("a file of the buffer has no name")?.to_string_lossy().into_owned();
        Ok((format!("{folder}/{name}"), hashes::of_file(&path)?))
    };
    store.paths()?.into_iter().map(one).collect()
}

/// Latents of pictures `[B, C, h, w]` or probabilities that are not finite cannot be trained on, nor stored in a
/// checkpoint. `prompts`: places of the pictures' prompts in `texts`.
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
