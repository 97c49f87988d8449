//! Truncated rollouts (self_npo): from a noisy picture a few steps of denoising by the averaged model, and what it then
//! predicts is the target for the same latents with more noise (docs/methods.md, section 7).

#[cfg(test)]
mod tests;

use super::machine::Machine;
use super::predict::Networks;
use crate::data::batches::Batch;
use crate::data::draws::Draws;
use crate::objectives::Start;
use crate::objectives::self_npo::GRID;
use anyhow::Result;
use pipelines::models::Conditioning;
use pipelines::sampling::{both_sides, guided};
use pipelines::schedulers::{Estimate, NoiseSchedule};
use tch::{Kind, Tensor};

/// How a run truncates its rollouts.
pub struct Truncating {
    pub start: Start,
    /// K
    pub steps: usize,
    /// w: x_0 = x_0(c) + w (x_0(c) - x_0("")), and the noise likewise. -1: the prompt is ignored.
    pub guidance: f64,
    pub draws: Draws,
    /// One row: the encoding of "".
    pub empty: Conditioning,
}

/// What a rollout leaves to be learnt.
pub struct Truncated {
    /// x_s, `[R, C, h, w]`, master kind
    pub latents: Tensor,
    /// s, one a row
    pub levels: Vec<i64>,
    /// x_0 as the averaged model predicts it, `[R, C, h, w]`
    pub target: Tensor,
}

/// Denoised latents and where each row stands.
struct Place {
    /// `[R, C, h, w]`
    latents: Tensor,
    /// A timestep a row.
    levels: Vec<i64>,
}

/// A network with its noise process, as rollouts ask it.
struct Network<'a> {
    schedule: &'a NoiseSchedule,
    /// What it predicts, in its own parameterisation and the latents' kind: of latents `[R, C, h, w]`, timesteps `[R]` and
    /// what it is told.
    predict: &'a dyn Fn(&Tensor, &Tensor, &Conditioning) -> Result<Tensor>,
}

impl Network<'_> {
    /// sqrt(abar) and sqrt(1 - abar) at each row's level, `[R, 1, 1, 1]` like `latents`.
    fn coefficients(&self, levels: &[i64], latents: &Tensor) -> (Tensor, Tensor) {
        let abar = self.abar(levels, latents);
        (abar.sqrt(), (1f64 - &abar).sqrt())
    }

    fn abar(&self, levels: &[i64], latents: &Tensor) -> Tensor {
        let timesteps = Tensor::from_slice(levels).to_device(latents.device());
        self.schedule.alphas_cumprod_at(&timesteps).to_kind(latents.kind()).reshape([-1, 1, 1, 1])
    }

    /// A prediction for latents at each row's level, split into x_0 and noise.
    fn estimate(&self, prediction: &Tensor, latents: &Tensor, levels: &[i64]) -> Estimate {
        let (signal, sigma) = self.coefficients(levels, latents);
        self.schedule.prediction_type().estimate(prediction, latents, &signal, &sigma)
    }
}

impl Truncating {
    /// t_i of the grid: 39, 79, .., 999 for a thousand timesteps.
    fn level(&self, i: i64) -> i64 {
        self.stride() * (i + 1) - 1
    }

    fn stride(&self) -> i64 {
        self.draws.total_timesteps / GRID
    }

    /// The level that a step from `t` leads to: below the first of the grid it is 0, where a rollout stays.
    fn below(&self, t: i64) -> i64 {
        (t - self.stride()).max(0)
    }

    /// Where each row starts.
    fn begin(&self, schedule: &NoiseSchedule, machine: Machine, batch: &Batch) -> Result<Place> {
        let place = |t: &Tensor| t.to_device(machine.device).to_kind(machine.master);
        if self.start == Start::Noise {
            let levels = vec![self.level(GRID - 1); batch.noise.size()[0] as usize];
            return Ok(Place { latents: place(&batch.noise), levels });
        }
        let mut levels = vec![0; batch.latents.size()[0] as usize];
        for item in &batch.items {
            let level = self.level(self.draws.choose_for(item.draw, "start", &item.id).randint(GRID)?);
            item.rows.iter().for_each(|row| levels[*row as usize] = level);
        }
        let timesteps = Tensor::from_slice(&levels).to_device(machine.device);
        Ok(Place { latents: schedule.add_noise(&place(&batch.latents), &place(&batch.noise), &timesteps), levels })
    }

    /// Denoises each row by K steps of the grid, or until it has none left. `told`: of every row.
    fn denoise(&self, network: &Network, start: Place, told: &Conditioning) -> Result<Place> {
        let Place { mut latents, mut levels } = start;
        for _ in 0..self.steps {
            let going: Vec<i64> = (0..levels.len() as i64).filter(|row| levels[*row as usize] > 0).collect();
            if going.is_empty() {
                break;
            }
            let index = Tensor::from_slice(&going).to_device(latents.device());
            let from: Vec<i64> = going.iter().map(|row| levels[*row as usize]).collect();
            let to: Vec<i64> = from.iter().map(|t| self.below(*t)).collect();
            let x = latents.index_select(0, &index);
            let end = self.guided(network, &x, &from, &told.map(|t| t.index_select(0, &index)))?;
            let (signal, sigma) = network.coefficients(&to, &x);
            latents = latents.index_copy(0, &index, &(signal * end.x0 + sigma * end.epsilon));
            going.iter().zip(to).for_each(|(row, t)| levels[*row as usize] = t);
        }
        Ok(Place { latents, levels })
    }

    /// The guided prediction at each row's own level, split into x_0 and noise.
    fn guided(&self, network: &Network, latents: &Tensor, levels: &[i64], told: &Conditioning) -> Result<Estimate> {
        let timesteps = Tensor::from_slice(levels).to_device(latents.device());
        // w (x(c) - x("")) + x(c) is guidance of scale 1 + w.
        let scale = 1.0 + self.guidance;
        let empty = self.empty_of(told);
        let prediction = if scale == 0.0 {
            (network.predict)(latents, &timesteps, &empty)?
        } else if scale == 1.0 {
            (network.predict)(latents, &timesteps, told)?
        } else {
            let [negative, positive] = both_sides(network.predict, latents, &timesteps, &empty, told)?;
            guided(&negative, &positive, scale)
        };
        Ok(network.estimate(&prediction, latents, levels))
    }

    /// "" for every row of `told`, with the row's own time_ids.
    fn empty_of(&self, told: &Conditioning) -> Conditioning {
        let (embeds, time_ids) = (&told.prompt_embeds, told.time_ids.as_ref().map(Tensor::shallow_clone));
        let rows = Tensor::zeros([embeds.size()[0]], (Kind::Int64, embeds.device()));
        let empty = self.empty.to(embeds.device(), embeds.kind()).map(|t| t.index_select(0, &rows));
        Conditioning { time_ids, ..empty }
    }

    /// How each row is noised again: s, drawn evenly above its level, and the noise `[R, C, h, w]`.
    fn levels_above(&self, batch: &Batch, end: &Place) -> Result<(Vec<i64>, Tensor)> {
        let shape = &end.latents.size()[1..];
        let mut drawn = vec![0; end.levels.len()];
        let mut noise: Vec<Tensor> = end.levels.iter().map(|_| Tensor::new()).collect();
        for item in &batch.items {
            for row in item.rows.iter().map(|row| *row as usize) {
                let above = self.draws.total_timesteps - 1 - end.levels[row];
                drawn[row] =
                    end.levels[row] + 1 + self.draws.choose_for(item.draw, "level", &item.id).randint(above)?;
                noise[row] = self.draws.choose_for(item.draw, "noise", &item.id).randn(shape);
            }
        }
        let noise = Tensor::f_stack(&noise, 0)?.to_device(end.latents.device()).to_kind(end.latents.kind());
        Ok((drawn, noise))
    }

    /// A whole rollout of a micro-batch; `told`: of every row.
    ///
    /// # Errors
    /// What the network refuses.
    fn run(&self, network: &Network, machine: Machine, batch: &Batch, told: &Conditioning) -> Result<Truncated> {
        let _frozen = tch::no_grad_guard();
        let start = self.begin(network.schedule, machine, batch)?;
        let end = self.denoise(network, start, told)?;
        let target = self.guided(network, &end.latents, &end.levels, told)?.x0;
        let (levels, noise) = self.levels_above(batch, &end)?;
        Ok(Truncated { latents: noised_again(network, &end, &levels, &noise), levels, target })
    }
}

/// x_s = (a_s / a_t) x_t + sqrt(s_s^2 - s_t^2 a_s^2 / a_t^2) noise, `[R, C, h, w]`; `levels`: s, each above its row's t.
fn noised_again(network: &Network, from: &Place, levels: &[i64], noise: &Tensor) -> Tensor {
    let (before, after) = (network.abar(&from.levels, &from.latents), network.abar(levels, &from.latents));
    let ratio = &after / &before; // a_s^2 / a_t^2
    let spread = (1f64 - &after - (1f64 - &before) * &ratio).clamp_min(0.0).sqrt();
    ratio.sqrt() * &from.latents + spread * noise
}

impl Truncating {
    /// Rollouts of a micro-batch by the policy under the values `average`, and the residuals `[R, C, h, w]` of its own
    /// prediction against theirs, with their graph.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn residuals(
        &self,
        networks: &Networks,
        average: &[(String, Tensor)],
        batch: &Batch,
    ) -> Result<(Truncated, Tensor)> {
        let Networks { machine, policy, .. } = networks;
        let predict = |x: &Tensor, t: &Tensor, told: &Conditioning| -> Result<Tensor> {
            let predicted = policy.denoiser.predict(&x.to_kind(machine.compute), t, told, policy.adapters)?;
            Ok(predicted.to_kind(machine.master))
        };
        let network = Network { schedule: &policy.denoiser.schedule, predict: &predict };
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
    let timesteps = Tensor::from_slice(&rollout.levels).to_device(rollout.latents.device());
    let predicted = (network.predict)(&rollout.latents, &timesteps, told)?;
    Ok(network.estimate(&predicted, &rollout.latents, &rollout.levels).x0 - &rollout.target)
}
