//! Latents by inversion (inpo, smpo): x_t is where the policy itself would have painted the image from
//! (docs/methods.md, sections 4 and 5).

use super::noised::{Noised, Space, mean_square};
use super::predict::Networks;
use crate::data::batches::Batch;
use crate::data::draws::Draws;
use crate::objectives::Inverter;
use anyhow::Result;
use pipelines::inversion::{CorrectionLabel, Inversion, invert};
use pipelines::models::Conditioning;
use tch::{Kind, Tensor};

/// How a run inverts its images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inverting {
    pub inverter: Inverter,
    /// Up to the next level of the public code's grid, not up to t itself.
    pub published: bool,
    /// n: steps of a whole inversion.
    pub steps: i64,
    pub eta: f64,
    /// The streams of the noise that eta adds.
    pub draws: Draws,
}

/// What an inversion says of itself: sums over its rows, so that micro-batches of any size add up to the step's means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct InversionWatch {
    rows: f64,
    tau_square: f64,
    change_square: f64,
}

impl InversionWatch {
    /// Takes in another micro-batch.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.tau_square += other.tau_square;
        self.change_square += other.change_square;
    }

    /// Root of the mean of tau^2: 1 for noise that the network could have been trained on.
    pub fn tau_rms(&self) -> Option<f64> {
        (self.rows > 0.0).then(|| (self.tau_square / self.rows).sqrt())
    }

    /// Mean square of what the policy's noise still changes from the last call on the way to x_t itself: 0 where the
    /// way is followed exactly, and less the more levels or corrections there are.
    pub fn error(&self) -> Option<f64> {
        (self.rows > 0.0).then(|| self.change_square / self.rows)
    }
}

/// A batch at its inverted latents.
pub struct Inverted {
    pub noised: Noised,
    /// The noise that the policy saw in its last call on the way, `[R, C, h, w]`.
    last: Tensor,
}

impl Inverted {
    /// `residuals`: those of the policy at the inverted latents.
    pub fn watch(&self, residuals: &Tensor) -> InversionWatch {
        let tau = &self.noised.target;
        let change = residuals.detach() + tau - &self.last;
        let sum = |t: &Tensor| mean_square(t).sum(Kind::Double).double_value(&[]);
        InversionWatch { rows: tau.size()[0] as f64, tau_square: sum(tau), change_square: sum(&change) }
    }
}

impl Inverting {
    /// The levels on the way from the image to timestep `t`.
    pub fn levels(&self, t: i64) -> Vec<i64> {
        if self.published { self.published_levels(t) } else { self.exact_levels(t) }
    }

    /// l_i = floor(i t / m + 1/2), i = 0..m, m = ceil(t n / T); t is at least 1.
    fn exact_levels(&self, t: i64) -> Vec<i64> {
        let m = (t * self.steps + self.draws.total_timesteps - 1) / self.draws.total_timesteps;
        (0..=m).map(|i| (2 * i * t + m) / (2 * m)).collect()
    }

    /// Sources 1 - spacing, 1, 1 + spacing, .. below t, and where the last of them leads.
    fn published_levels(&self, t: i64) -> Vec<i64> {
        let spacing = self.draws.total_timesteps / self.steps;
        let sources = (0..self.steps).map(|k| 1 + (k - 1) * spacing).take_while(|source| *source < t);
        let mut levels: Vec<i64> = sources.collect();
        levels.push(levels.last().map_or(1 - spacing, |source| source + spacing));
        levels
    }

    fn method(&self) -> Inversion {
        let label = if self.published { CorrectionLabel::Source } else { CorrectionLabel::Destination };
        let corrections = match self.inverter {
            Inverter::Ddim => 0,
            Inverter::ReNoise => 1,
        };
        Inversion { corrections, label, eta: self.eta }
    }

    /// The timesteps at which the networks are asked: there is nothing to invert at t = 0, unless as published.
    fn timesteps(&self, timesteps: &Tensor) -> Tensor {
        if self.published { timesteps.shallow_clone() } else { timesteps.clamp_min(1) }
    }

    /// The batch at its inverted latents, with tau = (x_t - a_t x_0) / s_t as what is to be predicted.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn invert(&self, networks: &Networks, batch: &Batch) -> Result<Inverted> {
        let Networks { machine, policy, .. } = networks;
        let _frozen = tch::no_grad_guard();
        let latents = batch.latents.to_device(machine.device).to_kind(machine.master);
        let timesteps = self.timesteps(&batch.timesteps.to_device(machine.device));
        let conditioning = batch.conditioning.to(machine.device, machine.compute);
        let rows: Vec<i64> = Vec::try_from(&timesteps.to_device(tch::Device::Cpu))?;
        let levels: Vec<Vec<i64>> = rows.into_iter().map(|t| self.levels(t)).collect();
        let mut last = latents.zeros_like();
        let mut predict = |x: &Tensor, t: &Tensor, rows: &[i64]| {
            let index = Tensor::from_slice(rows).to_device(machine.device);
            let told: Conditioning = conditioning.map(|c| c.index_select(0, &index));
            let prediction = policy.denoiser.predict(&x.to_kind(machine.compute), t, &told, policy.adapters)?;
            let prediction = prediction.to_kind(machine.master);
            last = last.index_copy(0, &index, &policy.denoiser.noise_of(&prediction, x, &t.clamp_min(0)));
            Ok(prediction)
        };
        let drawn = self.noise(batch, &levels);
        let mut noise = |row: i64, step: usize| drawn[row as usize].get(step as i64);
        let noisy = invert(&policy.denoiser.schedule, self.method(), &latents, &levels, &mut predict, &mut noise)?;
        let target = policy.denoiser.noise_between(&latents, &noisy, &timesteps);
        let latents = noisy.to_kind(machine.compute);
        let noised = Noised { latents, target, timesteps, conditioning, space: Space::Epsilon };
        Ok(Inverted { noised, last })
    }

    /// The noise of every row's steps, `[m, C, h, w]` each; nothing where none is added.
    fn noise(&self, batch: &Batch, levels: &[Vec<i64>]) -> Vec<Tensor> {
        if self.eta == 0.0 {
            return Vec::new();
        }
        let mut drawn: Vec<Tensor> =
            levels.iter().map(|_| Tensor::zeros([0], (Kind::Float, tch::Device::Cpu))).collect();
        let shape = &batch.latents.size()[1..];
        for item in &batch.items {
            for (k, row) in item.rows.iter().enumerate() {
                let steps = levels[*row as usize].len() - 1;
                drawn[*row as usize] = self.draws.inversion(item.draw, k, &item.id, steps, shape);
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::schedulers::{NoiseSchedule, SchedulerConfig};

    fn inverting(inverter: Inverter, published: bool, steps: i64) -> Inverting {
        let draws = Draws { seed: 0, draws_per_pair: 0, total_timesteps: 1000 };
        Inverting { inverter, published, steps, eta: 0.0, draws }
    }

    /// docs/methods.md 21.5
    #[test]
    fn levels_equal_the_fixtures() {
        let inpo = |published| inverting(Inverter::Ddim, published, 10);
        let smpo = |published| inverting(Inverter::ReNoise, published, 5);
        assert_eq!(inpo(false).levels(150), [0, 75, 150]);
        assert_eq!(inpo(false).levels(437), [0, 87, 175, 262, 350, 437]);
        assert_eq!(inpo(false).levels(950), [0, 95, 190, 285, 380, 475, 570, 665, 760, 855, 950]);
        assert_eq!(inpo(true).levels(150), [-99, 1, 101, 201]);
        assert_eq!(inpo(true).levels(437), [-99, 1, 101, 201, 301, 401, 501]);
        assert_eq!(inpo(true).levels(950), [-99, 1, 101, 201, 301, 401, 501, 601, 701, 801, 901]);
        assert_eq!(smpo(false).levels(150), [0, 150]);
        assert_eq!(smpo(false).levels(437), [0, 146, 291, 437]);
        assert_eq!(smpo(false).levels(950), [0, 190, 380, 570, 760, 950]);
        assert_eq!(smpo(true).levels(150), [-199, 1, 201]);
        assert_eq!(smpo(true).levels(437), [-199, 1, 201, 401, 601]);
        assert_eq!(smpo(true).levels(950), [-199, 1, 201, 401, 601, 801]);
    }

    fn schedule() -> NoiseSchedule {
        let text = r#"{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}"#;
        NoiseSchedule::new(&SchedulerConfig::parse(std::path::Path::new("scheduler_config.json"), text).unwrap())
    }

    /// eps*(x, t; c) of docs/methods.md 21: the exact network for data N(0, c^2).
    fn exact(schedule: &NoiseSchedule, x: &Tensor, t: &Tensor, c: f64) -> Tensor {
        let abar = schedule.alphas_cumprod_at(&t.clamp_min(0)).to_kind(Kind::Double).reshape([-1, 1, 1, 1]);
        let sigma = (1f64 - &abar).sqrt();
        &sigma * x / (&abar * (c * c) + sigma.square())
    }

    /// x_t, tau and the errors of policy (c = .5) and reference (c = .52) for an image of one pixel.
    fn end_to_end(inverting: &Inverting, x_0: f64) -> [f64; 4] {
        let schedule = schedule();
        let x_0 = Tensor::from_slice(&[x_0]).reshape([1, 1, 1, 1]);
        let mut predict = |x: &Tensor, t: &Tensor, _: &[i64]| Ok(exact(&schedule, x, t, 0.5));
        let mut noise = |_: i64, _: usize| panic!("eta is 0");
        let x =
            invert(&schedule, inverting.method(), &x_0, &[inverting.levels(437)], &mut predict, &mut noise).unwrap();
        let t = Tensor::from_slice(&[437i64]);
        let abar = schedule.alphas_cumprod_at(&t).to_kind(Kind::Double);
        let tau = (&x - abar.sqrt() * &x_0) / (1f64 - &abar).sqrt();
        let error = |c: f64| (exact(&schedule, &x, &t, c) - &tau).square().double_value(&[0, 0, 0, 0]);
        let number = |t: &Tensor| t.double_value(&[0, 0, 0, 0]);
        [number(&x), number(&tau), error(0.5), error(0.52)]
    }

    /// docs/methods.md 21.5, the last table: t = 437, x_0 = 1.3 (w) and -.7 (l), beta 200. Columns: x_w, tau_w, x_l, tau_l,
    /// e_theta(w), e_theta(l), e_ref(w), e_ref(l), u.
    #[test]
    fn inverted_pairs_equal_the_fixtures() {
        let inpo = |published| inverting(Inverter::Ddim, published, 10);
        let smpo = |published| inverting(Inverter::ReNoise, published, 5);
        #[rustfmt::skip]
        let rows = [
            (inpo(false), 1.0, [1.829100, 1.309243, -0.984900, -0.704977, 0.487911, 0.141465, 0.459695, 0.133284, -2.003545]),
            (inpo(true), 1.0, [1.883473, 1.377563, -1.014178, -0.741765, 0.475921, 0.137989, 0.447243, 0.129674, -2.036303]),
            (smpo(false), 0.748983, [2.012738, 1.539986, -1.083782, -0.829223, 0.448014, 0.129898, 0.418327, 0.121290, -1.578831]),
            (smpo(true), 0.748983, [1.728606, 1.182971, -0.930788, -0.636985, 0.510465, 0.148005, 0.483159, 0.140087, -1.452225]),
        ];
        for (inverting, multiplier, row) in rows {
            let (w, l) = (end_to_end(&inverting, 1.3), end_to_end(&inverting, -0.7));
            let u = multiplier * 0.5 * 200.0 * ((w[3] - w[2]) - (l[3] - l[2]));
            let found = [w[0], w[1], l[0], l[1], w[2], l[2], w[3], l[3], u];
            for (found, expected) in found.iter().zip(row) {
                assert!((found - expected).abs() < 2e-5 * expected.abs().max(1.0), "{inverting:?}: {found} {expected}");
            }
        }
    }
}
