//! Truncated rollouts (self_npo). The averaged model denoises a noisy picture for a few steps; its last prediction is
//! the target for the same latents with more noise (docs/methods.md, section 7).

#[cfg(test)]
mod tests;

use super::machine::Machine;
use super::predict::Networks;
use crate::data::batches::Batch;
use crate::data::draws::Draws;
use crate::objectives::Start;
use crate::objectives::self_npo::GRID;
use anyhow::Result;
use pipelines::process::Coefficients;
use pipelines::sampling::{both_sides, guided};
use pipelines::schedulers::Estimate;
use pipelines::{Conditioning, Levels, Process};
use tch::Tensor;

/// Truncation options of a run.
pub struct Truncating {
    pub start: Start,
    /// K
    pub steps: usize,
    /// w: x_0 = x_0(c) + w (x_0(c) - x_0("")), and for the noise likewise. -1: the prompt is ignored.
    pub guidance: f64,
    pub draws: Draws,
    /// One row: the encoding of "".
    pub empty: Conditioning,
}

/// Training target of a rollout.
pub struct Truncated {
    /// x_s, `[R, C, h, w]`, master kind
    pub latents: Tensor,
    /// s, one per row
    pub levels: Vec<f64>,
    /// x_0 predicted by the averaged model, `[R, C, h, w]`
    pub target: Tensor,
}

/// Denoised latents and the level of each row.
struct Place {
    /// `[R, C, h, w]`
    latents: Tensor,
    /// One per row.
    levels: Vec<f64>,
}

/// A network with its noise process, as needed by rollouts.
struct Network<'a> {
    process: &'a dyn Process,
    /// Prediction in its own parameterisation and the latents' type, for latents `[R, C, h, w]`, levels `[R]` and
    /// conditioning.
    predict: &'a dyn Fn(&Tensor, &Levels, &Conditioning) -> Result<Tensor>,
}

impl Truncating {
    /// t_i of the grid: 39, 79, .., 999 for a thousand timesteps.
    fn level(&self, i: i64) -> f64 {
        self.draws.range.rung(i, GRID)
    }

    /// Destination of a step from `level`: below the first level of the grid it is 0, where a rollout stays.
    fn below(&self, level: f64) -> f64 {
        self.draws.range.rung_below(level, GRID)
    }

    /// Start of each row.
    fn begin(&self, process: &dyn Process, machine: Machine, batch: &Batch) -> Result<Place> {
        let place = |t: &Tensor| t.to_device(machine.device).to_kind(machine.master);
        if self.start == Start::Noise {
            let levels = vec![self.level(GRID - 1); batch.noise.size()[0] as usize];
            return Ok(Place { latents: place(&batch.noise), levels });
        }
        let mut levels = vec![0.0; batch.latents.size()[0] as usize];
        for item in &batch.items {
            let level = self.level(self.draws.choose_for(item.draw, "start", &item.id).randint(GRID)?);
            item.rows.iter().for_each(|row| levels[*row as usize] = level);
        }
        let at = Levels::new(&levels).to(machine.device);
        Ok(Place { latents: process.add_noise(&place(&batch.latents), &place(&batch.noise), &at), levels })
    }

    /// Denoises each row by K steps of the grid, or to the end. `told`: conditioning of every row.
    fn denoise(&self, network: &Network, start: Place, told: &Conditioning) -> Result<Place> {
        let Place { mut latents, mut levels } = start;
        for _ in 0..self.steps {
            let going: Vec<i64> = (0..levels.len() as i64).filter(|row| levels[*row as usize] > 0.0).collect();
            if going.is_empty() {
                break;
            }
            let index = Tensor::from_slice(&going).to_device(latents.device());
            let from: Vec<f64> = going.iter().map(|row| levels[*row as usize]).collect();
            let to: Vec<f64> = from.iter().map(|t| self.below(*t)).collect();
            let x = latents.index_select(0, &index);
            let end = self.guided(network, &x, &from, &told.select(&index))?;
            let Coefficients { signal, sigma } = network.process.coefficients(&x, &Levels::new(&to).to(x.device()));
            latents = latents.index_copy(0, &index, &(signal * end.x0 + sigma * end.epsilon));
            going.iter().zip(to).for_each(|(row, t)| levels[*row as usize] = t);
        }
        Ok(Place { latents, levels })
    }

    /// The guided prediction at each row's own level, split into x_0 and noise.
    fn guided(&self, network: &Network, latents: &Tensor, levels: &[f64], told: &Conditioning) -> Result<Estimate> {
        let levels = Levels::new(levels).to(latents.device());
        // w (x(c) - x("")) + x(c) is guidance of scale 1 + w.
        let scale = 1.0 + self.guidance;
        let empty = self.empty_of(told);
        let prediction = if scale == 0.0 {
            (network.predict)(latents, &levels, &empty)?
        } else if scale == 1.0 {
            (network.predict)(latents, &levels, told)?
        } else {
            let [negative, positive] = both_sides(network.predict, latents, &levels, &empty, told)?;
            guided(&negative, &positive, scale)
        };
        Ok(network.process.split(&prediction, latents, &levels))
    }

    /// "" for every row of `told`, with the row's own time_ids.
    fn empty_of(&self, told: &Conditioning) -> Conditioning {
        told.with_prompt_of(&self.empty.like(told).repeat(told.rows()))
    }

    /// Renoising of each row: s, drawn uniformly above its level, and the noise `[R, C, h, w]`.
    fn levels_above(&self, batch: &Batch, end: &Place) -> Result<(Vec<f64>, Tensor)> {
        let shape = &end.latents.size()[1..];
        let mut drawn = vec![0.0; end.levels.len()];
        let mut noise: Vec<Tensor> = end.levels.iter().map(|_| Tensor::new()).collect();
        for item in &batch.items {
            for row in item.rows.iter().map(|row| *row as usize) {
                let mut generator = self.draws.choose_for(item.draw, "level", &item.id);
                drawn[row] = self.draws.range.draw_above(end.levels[row], &mut generator)?;
                noise[row] = self.draws.choose_for(item.draw, "noise", &item.id).randn(shape);
            }
        }
        let noise = Tensor::f_stack(&noise, 0)?.to_device(end.latents.device()).to_kind(end.latents.kind());
        Ok((drawn, noise))
    }

    /// A whole rollout of a micro-batch; `told`: conditioning of every row.
    ///
    /// # Errors
    /// Errors of the network.
    fn run(&self, network: &Network, machine: Machine, batch: &Batch, told: &Conditioning) -> Result<Truncated> {
        let _frozen = tch::no_grad_guard();
        let start = self.begin(network.process, machine, batch)?;
        let end = self.denoise(network, start, told)?;
        let target = self.guided(network, &end.latents, &end.levels, told)?.x0;
        let (levels, noise) = self.levels_above(batch, &end)?;
        Ok(Truncated { latents: noised_again(network, &end, &levels, &noise), levels, target })
    }
}

/// Latents of a row noised further to `levels`, each above its row's own.
fn noised_again(network: &Network, from: &Place, levels: &[f64], noise: &Tensor) -> Tensor {
    let at = |levels: &[f64]| Levels::new(levels).to(from.latents.device());
    network.process.noise_further(&from.latents, noise, &at(&from.levels), &at(levels))
}

impl Truncating {
    /// Rollouts of a micro-batch by the policy with the values `average`, and the residuals `[R, C, h, w]` of its own
    /// prediction against theirs, with their graph.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn residuals(
        &self,
        networks: &Networks,
        average: &[(String, Tensor)],
        batch: &Batch,
    ) -> Result<(Truncated, Tensor)> {
        let Networks { machine, policy, .. } = networks;
        let predict = |x: &Tensor, levels: &Levels, told: &Conditioning| -> Result<Tensor> {
            let predicted = policy.denoiser.predict(&x.to_kind(machine.compute), levels, told, policy.adapters)?;
            Ok(predicted.to_kind(machine.master))
        };
        let network = Network { process: &*policy.denoiser.process, predict: &predict };
        let told = batch.conditioning.to(machine.device, machine.compute);
        let rollout = {
            let _average = networks.under(Some(average));
            self.run(&network, *machine, batch, &told)?
        };
        let residuals = residuals(&network, &rollout, &told)?;
        Ok((rollout, residuals))
    }
}

/// The network's x_0 at the end of a rollout minus that of the rollout, `[R, C, h, w]`, with its graph.
fn residuals(network: &Network, rollout: &Truncated, told: &Conditioning) -> Result<Tensor> {
    let levels = Levels::new(&rollout.levels).to(rollout.latents.device());
    let predicted = (network.predict)(&rollout.latents, &levels, told)?;
    Ok(network.process.split(&predicted, &rollout.latents, &levels).x0 - &rollout.target)
}
