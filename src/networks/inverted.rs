//! Latents by inversion (inpo, smpo): x_t is on the policy's own path to the image (docs/methods.md, sections 4 and
//! 5).

use super::noised::{Noised, Space, mean_square};
use super::predict::Networks;
use crate::data::batches::Batch;
use crate::data::draws::Draws;
use crate::objectives::Inverter;
use anyhow::Result;
use pipelines::Levels;
use pipelines::inversion::{CorrectionLabel, Inversion, invert};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Inversion options of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inverting {
    pub inverter: Inverter,
    /// Up to the next level of the public code's grid instead of t itself.
    pub published: bool,
    /// n: steps of a whole inversion.
    pub steps: i64,
    pub eta: f64,
    /// Streams of the noise with eta above 0.
    pub draws: Draws,
}

/// Metrics of an inversion: sums over its rows, so that micro-batches of any size add up to the step's means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct InversionWatch {
    rows: f64,
    tau_square: f64,
    change_square: f64,
}

impl InversionWatch {
    /// Adds another micro-batch.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.tau_square += other.tau_square;
        self.change_square += other.change_square;
    }

    /// Root of the mean of tau^2: 1 for noise of the training distribution.
    pub fn tau_rms(&self) -> Option<f64> {
        (self.rows > 0.0).then(|| (self.tau_square / self.rows).sqrt())
    }

    /// Mean squared change of the policy's noise between the last call of the path and x_t itself: 0 where the path
    /// is followed exactly, and smaller with more levels or corrections.
    pub fn error(&self) -> Option<f64> {
        (self.rows > 0.0).then(|| self.change_square / self.rows)
    }
}

/// A batch at its inverted latents.
pub struct Inverted {
    pub noised: Noised,
    /// The policy's noise in its last call of the path, `[R, C, h, w]`.
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
    /// The levels of the path from the image to `level`.
    pub fn levels(&self, level: f64) -> Vec<f64> {
        let range = self.draws.range;
        if self.published { range.published_path(level, self.steps) } else { range.path(level, self.steps) }
    }

    fn method(&self) -> Inversion {
        let label = if self.published { CorrectionLabel::Source } else { CorrectionLabel::Destination };
        let corrections = match self.inverter {
            Inverter::Ddim => 0,
            Inverter::ReNoise => 1,
        };
        Inversion { corrections, label, eta: self.eta }
    }

    /// The batch at its inverted latents, with the target tau = (x_t - a_t x_0) / s_t.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn invert(&self, networks: &Networks, batch: &Batch) -> Result<Inverted> {
        let Networks { machine, policy, .. } = networks;
        let _frozen = tch::no_grad_guard();
        let latents = batch.latents.to_device(machine.device).to_kind(machine.master);
        let conditioning = batch.conditioning.to(machine.device, machine.compute);
        // Level 0 has no inversion, except as published.
        let lowest = if self.published { 0.0 } else { self.draws.range.lowest_inverted() };
        let ends: Vec<f64> = batch.levels.values().into_iter().map(|level| level.max(lowest)).collect();
        let paths: Vec<Vec<f64>> = ends.iter().map(|level| self.levels(*level)).collect();
        let mut last = latents.zeros_like();
        let process = &policy.denoiser.process;
        let mut predict = |x: &Tensor, at: &Levels, rows: &[i64]| {
            let index = Tensor::from_slice(rows).to_device(machine.device);
            let told = conditioning.select(&index);
            let prediction = policy.denoiser.predict(&x.to_kind(machine.compute), at, &told, policy.adapters)?;
            let prediction = prediction.to_kind(machine.master);
            last = last.index_copy(0, &index, &process.split(&prediction, x, at).epsilon);
            Ok(prediction)
        };
        let drawn = self.noise(batch, &paths);
        let mut noise = |row: i64, step: usize| drawn[row as usize].get(step as i64);
        let noisy = invert(&**process, self.method(), &latents, &paths, &mut predict, &mut noise)?;
        let levels = Levels::new(&ends).to(machine.device);
        let target = process.noise_between(&latents, &noisy, &levels);
        let latents = noisy.to_kind(machine.compute);
        let noised = Noised { latents, target, levels, conditioning, space: Space::Epsilon };
        Ok(Inverted { noised, last })
    }

    /// The noise of every row's steps, `[m, C, h, w]` each; none with eta 0.
    fn noise(&self, batch: &Batch, paths: &[Vec<f64>]) -> Vec<Tensor> {
        if self.eta == 0.0 {
            return Vec::new();
        }
        let mut drawn: Vec<Tensor> =
            paths.iter().map(|_| Tensor::zeros([0], (Kind::Float, tch::Device::Cpu))).collect();
        let shape = &batch.latents.size()[1..];
        for item in &batch.items {
            for (k, row) in item.rows.iter().enumerate() {
                let steps = paths[*row as usize].len() - 1;
                drawn[*row as usize] = self.draws.inversion(item.draw, k, &item.id, steps, shape);
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::LevelRange;
    use pipelines::schedulers::{NoiseSchedule, SchedulerConfig};

    fn inverting(inverter: Inverter, published: bool, steps: i64) -> Inverting {
        let draws = Draws { seed: 0, draws_per_pair: 0, range: LevelRange::Steps(1000) };
        Inverting { inverter, published, steps, eta: 0.0, draws }
    }

    /// docs/methods.md 21.5
    #[test]
    fn levels_equal_the_fixtures() {
        let inpo = |published| inverting(Inverter::Ddim, published, 10);
        let smpo = |published| inverting(Inverter::ReNoise, published, 5);
        assert_eq!(inpo(false).levels(150.0), [0.0, 75.0, 150.0]);
        assert_eq!(inpo(false).levels(437.0), [0.0, 87.0, 175.0, 262.0, 350.0, 437.0]);
        assert_eq!(
            inpo(false).levels(950.0),
            [0.0, 95.0, 190.0, 285.0, 380.0, 475.0, 570.0, 665.0, 760.0, 855.0, 950.0]
        );
        assert_eq!(inpo(true).levels(150.0), [-99.0, 1.0, 101.0, 201.0]);
        assert_eq!(inpo(true).levels(437.0), [-99.0, 1.0, 101.0, 201.0, 301.0, 401.0, 501.0]);
        assert_eq!(
            inpo(true).levels(950.0),
            [-99.0, 1.0, 101.0, 201.0, 301.0, 401.0, 501.0, 601.0, 701.0, 801.0, 901.0]
        );
        assert_eq!(smpo(false).levels(150.0), [0.0, 150.0]);
        assert_eq!(smpo(false).levels(437.0), [0.0, 146.0, 291.0, 437.0]);
        assert_eq!(smpo(false).levels(950.0), [0.0, 190.0, 380.0, 570.0, 760.0, 950.0]);
        assert_eq!(smpo(true).levels(150.0), [-199.0, 1.0, 201.0]);
        assert_eq!(smpo(true).levels(437.0), [-199.0, 1.0, 201.0, 401.0, 601.0]);
        assert_eq!(smpo(true).levels(950.0), [-199.0, 1.0, 201.0, 401.0, 601.0, 801.0]);
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
        let mut predict =
            |x: &Tensor, at: &Levels, _: &[i64]| Ok(exact(&schedule, x, &at.tensor().to_kind(Kind::Int64), 0.5));
        let mut noise = |_: i64, _: usize| panic!("eta is 0");
        let x =
            invert(&schedule, inverting.method(), &x_0, &[inverting.levels(437.0)], &mut predict, &mut noise).unwrap();
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
