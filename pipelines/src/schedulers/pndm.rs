//! Pseudo linear multi-step (arXiv 2202.09778), as diffusers' `PNDMScheduler` steps it with skip_prk_steps: PLMS, the
//! published sampler of Stable Diffusion 1 (docs/methods.md 18).

use super::config::{PredictionType, SchedulerConfig};
use super::sampler::{Prediction, Sampler, Scheduler};
use super::schedule::NoiseSchedule;
use super::spacing;
use crate::{Error, Result};
use tch::Tensor;

const CLASS: &str = "PNDMScheduler";
/// Older predictions in the longest multi-step formula.
const REMEMBERED: usize = 3;

pub(super) static SCHEDULER: Scheduler = Scheduler {
    name: "pndm",
    class: CLASS,
    title: "PLMS",
    default_steps: 50,
    takes_eta: false,
    takes_karras: false,
    takes_renoise: false,
    takes_zero_terminal_snr: false,
    build: |config, steps, _| Ok(Box::new(Pndm::new(config, steps)?)),
};

/// A PLMS sampler and its state. The second timestep is called twice: its first call only improves the first step.
#[derive(Debug)]
pub struct Pndm {
    timesteps: Vec<f64>,
    /// abar at the source and destination level of each call.
    levels: Vec<(f32, f32)>,
    prediction_type: PredictionType,
    /// Predictions of earlier calls, the latest last.
    older: Vec<Tensor>,
    /// The latents of the first call, the start of the second step too.
    start: Option<Tensor>,
}

impl Pndm {
    /// The sampler of `PNDMScheduler.from_config` for `config`.
    ///
    /// # Errors
    /// Steps that the model lacks; a file without skip_prk_steps = true: the Runge-Kutta start is not implemented.
    pub fn new(config: &SchedulerConfig, steps: i64) -> Result<Self> {
        if config.flag("skip_prk_steps")? != Some(true) {
            let found = "not true: PNDM would start with Runge-Kutta steps, which are not implemented";
            return Err(Error::config(
                &config.path,
                "skip_prk_steps",
                "true, as in Stable Diffusion's own file",
                found,
            ));
        }
        // The class does not support zero terminal SNR: it ignores the key.
        let config = &config.overridden(None, Some(false))?;
        let mut timesteps = spacing::whole(config, CLASS, steps)?;
        let abar = Vec::<f32>::try_from(NoiseSchedule::new(config).alphas_cumprod())?;
        let last = if config.set_alpha_to_one.unwrap_or(false) { 1.0 } else { abar[0] };
        let stride = config.num_train_timesteps / steps;
        let at = |t: i64| if t < 0 { last } else { abar[t as usize] };
        if let Some(second) = timesteps.get(1).copied() {
            timesteps.insert(1, second);
        }
        let level = |(call, t): (usize, &i64)| match call {
            1 => (at(t + stride), at(*t)),
            _ => (at(*t), at(t - stride)),
        };
        Ok(Self {
            levels: timesteps.iter().enumerate().map(level).collect(),
            timesteps: timesteps.into_iter().map(|t| t as f64).collect(),
            prediction_type: config.prediction_type,
            older: Vec::new(),
            start: None,
        })
    }

    /// Adams-Bashforth over the newest prediction and the older ones, of the highest order available.
    fn extrapolated(&self, newest: &Tensor) -> Tensor {
        match &self.older[..] {
            [.., fourth, third, second] => (newest * 55.0 - second * 59.0 + third * 37.0 - fourth * 9.0) * (1.0 / 24.0),
            [third, second] => (newest * 23.0 - second * 16.0 + third * 5.0) / 12.0,
            [second] => (newest * 3.0 - second) / 2.0,
            [] => newest.shallow_clone(),
        }
    }

    /// Eq. 9 of the paper: the step of DDIM without noise.
    fn transfer(&self, call: usize, prediction: &Tensor, latents: &Tensor) -> Tensor {
        let (abar, abar_prev) = self.levels[call];
        let (signal, sigma) = (abar.sqrt(), (1.0 - abar).sqrt());
        let epsilon = match self.prediction_type {
            PredictionType::Epsilon => prediction.shallow_clone(),
            PredictionType::VPrediction => prediction * f64::from(signal) + latents * f64::from(sigma),
        };
        let kept = (abar_prev / abar).sqrt();
        let scale = abar * (1.0 - abar_prev).sqrt() + (abar * (1.0 - abar) * abar_prev).sqrt();
        latents * f64::from(kept) - epsilon * f64::from(abar_prev - abar) / f64::from(scale)
    }
}

impl Sampler for Pndm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn step(
        &mut self,
        call: usize,
        prediction: &Prediction,
        latents: &Tensor,
        _noise: &mut dyn FnMut() -> Tensor,
    ) -> Tensor {
        let newest = &prediction.guided;
        if let (1, Some(start), Some(first)) = (call, self.start.take(), self.older.last()) {
            return self.transfer(call, &((newest + first) / 2.0), &start);
        }
        if call == 0 {
            self.start = Some(latents.shallow_clone());
        }
        let stepped = self.transfer(call, &self.extrapolated(newest), latents);
        self.older.push(newest.shallow_clone());
        let forgotten = self.older.len().saturating_sub(REMEMBERED);
        self.older.drain(..forgotten);
        stepped
    }
}
