//! The noise levels sigma = sqrt((1 - abar)/abar) that Euler's methods and DPM-Solver++ step through.

use super::config::{SchedulerConfig, TimestepSpacing};
use super::schedule::NoiseSchedule;
use crate::{Error, Result};
use tch::Tensor;

/// rho of arXiv 2206.00364.
const RHO: f64 = 7.0;

/// Timesteps of the network's calls, falling, and the noise level of each, followed by the destination level of the
/// last step. float32 as in diffusers.
#[derive(Debug, Clone)]
pub struct SigmaGrid {
    pub timesteps: Vec<f64>,
    /// One more than timesteps.
    pub sigmas: Vec<f32>,
}

/// sigma of every training timestep.
pub(super) struct SigmaTable {
    sigmas: Vec<f32>,
    final_sigma: f32,
}

impl SigmaTable {
    /// Zero terminal SNR ends at abar = 2^-24 here, so that the first sigma is finite, as in diffusers.
    ///
    /// # Errors
    /// A final_sigmas_type that is neither "zero" nor "sigma_min".
    pub fn new(config: &SchedulerConfig) -> Result<Self> {
        let mut abar = Vec::<f32>::try_from(NoiseSchedule::new(config).alphas_cumprod())?;
        if let (true, Some(last)) = (config.rescale_betas_zero_snr, abar.last_mut()) {
            *last = 2f32.powi(-24);
        }
        let sigmas: Vec<f32> = abar.iter().map(|abar| ((1.0 - abar) / abar).sqrt()).collect();
        let final_sigma = match config.text("final_sigmas_type")? {
            None | Some("zero") => 0.0,
            Some("sigma_min") => sigmas[0],
            Some(other) => {
                return Err(Error::config(
                    &config.path,
                    "final_sigmas_type",
                    "\"zero\" or \"sigma_min\"",
                    format!("{other:?}"),
                ));
            }
        };
        Ok(Self { sigmas, final_sigma })
    }

    /// sigma at `timesteps`, linear between the entries of the table and constant beyond them.
    pub fn at(&self, timesteps: Vec<f64>) -> SigmaGrid {
        let last = self.sigmas.len() - 1;
        let sigma = |t: &f64| {
            let below = t.floor().clamp(0.0, last as f64) as usize;
            let (lower, upper) = (f64::from(self.sigmas[below]), f64::from(self.sigmas[(below + 1).min(last)]));
            (lower + (upper - lower) * (t - below as f64).clamp(0.0, 1.0)) as f32
        };
        let sigmas = timesteps.iter().map(sigma).chain([self.final_sigma]).collect();
        SigmaGrid { timesteps, sigmas }
    }

    /// `steps` levels from `most` to `least` noise, evenly spaced in sigma^(1/7) (arXiv 2206.00364 eq. 5), with their
    /// timesteps. The file's sigma_min and sigma_max override both ends.
    pub fn karras(&self, config: &SchedulerConfig, steps: i64, most: f32, least: f32) -> Result<SigmaGrid> {
        let most = config.number("sigma_max")?.unwrap_or(f64::from(most)).powf(1.0 / RHO);
        let least = config.number("sigma_min")?.unwrap_or(f64::from(least)).powf(1.0 / RHO);
        let ramp = |i: i64| i as f64 / (steps - 1).max(1) as f64;
        let sigmas: Vec<f64> = (0..steps).map(|i| (most + ramp(i) * (least - most)).powf(RHO)).collect();
        let timesteps = sigmas.iter().map(|sigma| self.timestep(*sigma)).collect();
        let sigmas = sigmas.iter().map(|sigma| *sigma as f32).chain([self.final_sigma]).collect();
        Ok(SigmaGrid { timesteps, sigmas })
    }

    /// The least and the most noise of the table.
    pub fn ends(&self) -> (f32, f32) {
        (self.sigmas[0], self.sigmas[self.sigmas.len() - 1])
    }

    /// The timestep of a noise level, linear in log sigma between the entries of the table.
    fn timestep(&self, sigma: f64) -> f64 {
        let log = |index: usize| f64::from(self.sigmas[index].ln());
        let sigma = sigma.max(1e-10).ln();
        let below = (0..self.sigmas.len()).rev().find(|index| log(*index) <= sigma).unwrap_or(0);
        let below = below.min(self.sigmas.len() - 2);
        let share = ((log(below) - sigma) / (log(below) - log(below + 1))).clamp(0.0, 1.0);
        (1.0 - share) * below as f64 + share * (below + 1) as f64
    }
}

/// Standard deviation of the initial noise: as if x_0 were 0, except for leading spacing, which starts below the last
/// level.
pub(super) fn init_noise_sigma(config: &SchedulerConfig, grid: &SigmaGrid) -> f64 {
    let most = grid.sigmas.iter().copied().fold(0.0, f32::max);
    match config.timestep_spacing.unwrap_or(TimestepSpacing::Linspace) {
        TimestepSpacing::Linspace | TimestepSpacing::Trailing => f64::from(most),
        TimestepSpacing::Leading => f64::from((most * most + 1.0).sqrt()),
    }
}

/// x_t = z / sqrt(sigma^2 + 1), the network's training input.
pub(super) fn variance_preserving(z: &Tensor, sigma: f32) -> Tensor {
    z / f64::from((sigma * sigma + 1.0).sqrt())
}
