//! Truncated rollouts (self_npo): from a noisy picture a few steps of denoising by the averaged model, and what it then
//! predicts is the target for the same latents with more noise (docs/methods.md, section 7).

use super::optimizer::Swapped;
use super::policy::{Machine, Policy};
use super::step::{Halted, Learner};
use crate::data::batches::Batch;
use crate::data::draws::Draws;
use crate::objectives::{Objective, numbers};
use anyhow::{Context, Result, bail};
use pipelines::families::Denoiser;
use pipelines::models::Conditioning;
use pipelines::sampling::{guided, stacked};
use tch::{Device, Kind, Tensor};

/// Steps of the grid from which rollouts start.
const GRID: i64 = 25;

/// Where a rollout starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A picture of the data, noised to a level of the grid.
    Data,
    /// Noise alone.
    Noise,
}

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
    /// s, `[R]` int64
    pub timesteps: Tensor,
    /// x_0 as the averaged model predicts it, `[R, C, h, w]`
    pub target: Tensor,
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

    /// Where each row starts: its timestep, and its latents `[R, C, h, w]`.
    fn begin(&self, denoiser: &Denoiser, machine: Machine, batch: &Batch) -> Result<(Vec<i64>, Tensor)> {
        let place = |t: &Tensor| t.to_device(machine.device).to_kind(machine.master);
        if self.start == Start::Noise {
            return Ok((vec![self.level(GRID - 1); batch.noise.size()[0] as usize], place(&batch.noise)));
        }
        let mut levels = vec![0; batch.latents.size()[0] as usize];
        for item in &batch.items {
            let level = self.level(self.draws.choose_for(item.draw, "start", &item.id).randint(GRID)?);
            item.rows.iter().for_each(|row| levels[*row as usize] = level);
        }
        let timesteps = Tensor::from_slice(&levels).to_device(machine.device);
        let latents = denoiser.add_noise(&place(&batch.latents), &place(&batch.noise), &timesteps);
        Ok((levels, latents))
    }

    /// Runs the rollouts of a micro-batch with the weights that the policy has now, and noises their ends again.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn run(&self, policy: &Policy, machine: Machine, batch: &Batch) -> Result<Truncated> {
        let _frozen = tch::no_grad_guard();
        let denoiser = &policy.denoiser;
        let conditioning = batch.conditioning.to(machine.device, machine.compute);
        let (mut levels, mut latents) = self.begin(denoiser, machine, batch)?;
        for _ in 0..self.steps {
            let going: Vec<i64> = (0..levels.len() as i64).filter(|row| levels[*row as usize] > 0).collect();
            if going.is_empty() {
                break;
            }
            let index = Tensor::from_slice(&going).to_device(machine.device);
            let from: Vec<i64> = going.iter().map(|row| levels[*row as usize]).collect();
            let to: Vec<i64> = from.iter().map(|t| self.below(*t)).collect();
            let told = conditioning.map(|t| t.index_select(0, &index));
            let x = latents.index_select(0, &index);
            let end = self.predict(policy, machine, &x, &from, &told)?;
            let abar = abar(denoiser, &to, &x);
            let next = abar.sqrt() * end.x0 + (1f64 - &abar).sqrt() * end.epsilon;
            latents = latents.index_copy(0, &index, &next);
            going.iter().zip(to).for_each(|(row, t)| levels[*row as usize] = t);
        }
        let target = self.predict(policy, machine, &latents, &levels, &conditioning)?.x0;
        let (latents, timesteps) = self.noise_again(denoiser, batch, &latents, &levels)?;
        Ok(Truncated { latents, timesteps, target })
    }

    /// The guided prediction at each row's own level, split into x_0 and noise.
    fn predict(
        &self,
        policy: &Policy,
        machine: Machine,
        latents: &Tensor,
        levels: &[i64],
        conditioning: &Conditioning,
    ) -> Result<pipelines::schedulers::Estimate> {
        let timesteps = Tensor::from_slice(levels).to_device(machine.device);
        let ask = |x: &Tensor, t: &Tensor, told: &Conditioning| -> Result<Tensor> {
            let predicted = policy.denoiser.predict(&x.to_kind(machine.compute), t, told, policy.adapters)?;
            Ok(predicted.to_kind(machine.master))
        };
        // w (x(c) - x("")) + x(c) is guidance of scale 1 + w.
        let scale = 1.0 + self.guidance;
        let empty = self.empty_of(machine, conditioning);
        let prediction = if scale == 0.0 {
            ask(latents, &timesteps, &empty)?
        } else if scale == 1.0 {
            ask(latents, &timesteps, conditioning)?
        } else {
            let twice = |t: &Tensor| Tensor::cat(&[t, t], 0);
            let halves = ask(&twice(latents), &twice(&timesteps), &stacked(&empty, conditioning)?)?.chunk(2, 0);
            guided(&halves[0], &halves[1], scale)
        };
        let abar = abar(&policy.denoiser, levels, latents);
        let kind = policy.denoiser.schedule.prediction_type();
        Ok(kind.estimate(&prediction, latents, &abar.sqrt(), &(1f64 - &abar).sqrt()))
    }

    /// "" for every row, with the row's own time_ids.
    fn empty_of(&self, machine: Machine, conditioning: &Conditioning) -> Conditioning {
        let rows = Tensor::zeros([conditioning.prompt_embeds.size()[0]], (Kind::Int64, machine.device));
        let empty = self.empty.to(machine.device, machine.compute).map(|t| t.index_select(0, &rows));
        Conditioning { time_ids: conditioning.time_ids.as_ref().map(Tensor::shallow_clone), ..empty }
    }

    /// x_s = (a_s / a_t) x_t + sqrt(s_s^2 - s_t^2 a_s^2 / a_t^2) noise for s drawn evenly above t.
    fn noise_again(
        &self,
        denoiser: &Denoiser,
        batch: &Batch,
        latents: &Tensor,
        levels: &[i64],
    ) -> Result<(Tensor, Tensor)> {
        let shape = &latents.size()[1..];
        let mut drawn = vec![0; levels.len()];
        let mut noise: Vec<Tensor> = levels.iter().map(|_| Tensor::new()).collect();
        for item in &batch.items {
            for row in item.rows.iter().map(|row| *row as usize) {
                let above = self.draws.total_timesteps - 1 - levels[row];
                drawn[row] = levels[row] + 1 + self.draws.choose_for(item.draw, "level", &item.id).randint(above)?;
                noise[row] = self.draws.choose_for(item.draw, "noise", &item.id).randn(shape);
            }
        }
        let noise = Tensor::f_stack(&noise, 0)?.to_device(latents.device()).to_kind(latents.kind());
        let (before, after) = (abar(denoiser, levels, latents), abar(denoiser, &drawn, latents));
        let ratio = &after / &before; // a_s^2 / a_t^2
        let spread = (1f64 - &after - (1f64 - &before) * &ratio).clamp_min(0.0).sqrt();
        let timesteps = Tensor::from_slice(&drawn).to_device(latents.device());
        Ok((ratio.sqrt() * latents + spread * noise, timesteps))
    }
}

/// abar at each row's level, `[R, 1, 1, 1]` like `latents`.
fn abar(denoiser: &Denoiser, levels: &[i64], latents: &Tensor) -> Tensor {
    let timesteps = Tensor::from_slice(levels).to_device(latents.device());
    let abar = denoiser.schedule.alphas_cumprod_at(&timesteps).to_device(latents.device());
    abar.to_kind(latents.kind()).reshape([-1, 1, 1, 1])
}

impl Learner {
    /// Rollouts by the averaged model, and the policy's own prediction against theirs: forward and backward. Returns the
    /// losses, one a row.
    pub fn train_truncated(&self, truncating: &Truncating, batch: &Batch) -> Result<Vec<f64>> {
        let Objective::Residuals(method) = &self.objective else {
            bail!("the method has no loss of predicted pictures")
        };
        let rollout = {
            let average = self.ema.as_ref().context("truncated rollouts are made by averaged weights")?;
            let _average = Swapped::new(&self.policy.trainable, &average.weights);
            truncating.run(&self.policy, self.machine, batch)?
        };
        let residuals = self.residuals(batch, &rollout)?;
        let leaf = residuals.detach().set_requires_grad(true);
        let losses = method.losses(&leaf);
        let values = numbers(&losses);
        if let Some(row) = values.iter().position(|loss| !loss.is_finite()) {
            let id =
                batch.items.iter().find(|item| item.rows.contains(&(row as i64))).map_or("?", |item| item.id.as_str());
            bail!(Halted::before_update(format!(
                "loss of {id} at timestep {} is {}; the weights were not changed. Start another run with a lower optim.lr or in float32.",
                rollout.timesteps.int64_value(&[row as i64]),
                values[row]
            )));
        }
        let grads = Tensor::f_run_backward(&[losses.sum(losses.kind())], &[&leaf], false, false)?;
        let root = (&residuals * grads[0].detach()).sum(None::<Kind>);
        if !root.requires_grad() {
            bail!("no trained tensor took part in the prediction: check lora.targets");
        }
        root.f_backward()?;
        Ok(values)
    }

    /// The policy's x_0 minus that of the rollout, `[R, C, h, w]`, with its graph.
    fn residuals(&self, batch: &Batch, rollout: &Truncated) -> Result<Tensor> {
        let (machine, denoiser) = (self.machine, &self.policy.denoiser);
        let conditioning = batch.conditioning.to(machine.device, machine.compute);
        let x = rollout.latents.to_kind(machine.compute);
        let predicted = denoiser.predict(&x, &rollout.timesteps, &conditioning, self.policy.adapters)?;
        let levels = Vec::<i64>::try_from(rollout.timesteps.to_device(Device::Cpu))?;
        let abar = abar(denoiser, &levels, &rollout.latents);
        let kind = denoiser.schedule.prediction_type();
        let own =
            kind.estimate(&predicted.to_kind(machine.master), &rollout.latents, &abar.sqrt(), &(1f64 - &abar).sqrt());
        Ok(own.x0 - &rollout.target)
    }
}
