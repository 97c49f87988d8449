//! Placement of n steps on the training timesteps (docs/methods.md 18; table 2 of arXiv 2305.08891).

use super::config::{SchedulerConfig, TimestepSpacing};
use crate::{Error, Result};

/// n timesteps of diffusers 0.42, falling, before a sampler rounds them: numpy's operations in float64.
///
/// "trailing" deviates from diffusers where its `np.arange(T, 0, -T/n)` yields n + 1 entries, the last of them -1 (62
/// of the n up to 1000, the smallest is 61): here there are always n.
pub(super) fn evenly(spacing: TimestepSpacing, total: i64, steps: i64, offset: i64) -> Vec<f64> {
    match spacing {
        TimestepSpacing::Leading => (0..steps).rev().map(|j| (total / steps * j + offset) as f64).collect(),
        TimestepSpacing::Linspace => {
            let step = (total - 1) as f64 / (steps - 1).max(1) as f64;
            (0..steps).rev().map(|j| (j as f64 * step).min((total - 1) as f64)).collect()
        }
        TimestepSpacing::Trailing => {
            // numpy fills an arange from its first two entries, which matters where a value falls on .5
            let delta = (total as f64 - total as f64 / steps as f64) - total as f64;
            (0..steps).map(|i| (total as f64 + i as f64 * delta).round_ties_even() - 1.0).collect()
        }
    }
}

/// The whole timesteps of DDIM and PNDM.
///
/// # Errors
/// Those of [`check_steps`], and leading spacing whose offset starts past the last training timestep.
pub(super) fn whole(config: &SchedulerConfig, class: &str, steps: i64) -> Result<Vec<i64>> {
    check_steps(config, steps)?;
    let offset = config.steps_offset_of(class);
    let spacing = config.timestep_spacing.unwrap_or(TimestepSpacing::Leading);
    let timesteps = rounded(evenly(spacing, config.num_train_timesteps, steps, offset));
    check_start(config, &timesteps, steps)?;
    Ok(timesteps)
}

/// The timesteps of both Euler samplers, which may be fractional: float32 as in diffusers.
pub(super) fn fractional(config: &SchedulerConfig, class: &str, steps: i64) -> Result<Vec<f64>> {
    check_steps(config, steps)?;
    let kind = config.timestep_spacing.unwrap_or(TimestepSpacing::Linspace);
    let even = evenly(kind, config.num_train_timesteps, steps, config.steps_offset_of(class));
    Ok(even.into_iter().map(|t| f64::from(t as f32)).collect())
}

pub(super) fn rounded(timesteps: Vec<f64>) -> Vec<i64> {
    timesteps.into_iter().map(|t| t.round_ties_even() as i64).collect()
}

/// Refuses a number of steps that the model lacks.
pub(super) fn check_steps(config: &SchedulerConfig, steps: i64) -> Result<()> {
    let total = config.num_train_timesteps;
    if !(1..=total).contains(&steps) {
        return Err(Error::Invalid(format!(
            "{steps} sampling steps: expected 1 to {total}, the timesteps of the model"
        )));
    }
    Ok(())
}

/// Refuses timesteps that the model lacks.
pub(super) fn check_start(config: &SchedulerConfig, timesteps: &[i64], steps: i64) -> Result<()> {
    let last = config.num_train_timesteps - 1;
    match timesteps.iter().find(|t| !(0..=last).contains(*t)) {
        Some(t) => Err(Error::Invalid(format!(
            "{steps} sampling steps with leading spacing and its offset visit timestep {t}, the model has 0 to {last}; \
             take fewer"
        ))),
        None => Ok(()),
    }
}
