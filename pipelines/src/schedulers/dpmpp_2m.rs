//! DPM-Solver++ (2M), the second-order multistep solver of arXiv 2211.01095, algorithm 2, as diffusers'
//! `DPMSolverMultistepScheduler` steps it: midpoint variant (docs/methods.md 18).

use super::config::{PredictionType, SchedulerConfig, TimestepSpacing};
use super::prediction::step_kind;
use super::sampler::{Prediction, Sampler, SamplerOptions, Scheduler};
use super::sigmas::{SigmaGrid, SigmaTable};
use super::spacing::{check_start, check_steps, evenly, rounded};
use crate::{Error, Result};
use tch::Tensor;

const CLASS: &str = "DPMSolverMultistepScheduler";
/// Number of steps below which the last one is of first order in diffusers (lower_order_final).
const FEW_STEPS: usize = 15;

pub(super) static SCHEDULER: Scheduler = Scheduler {
    name: "dpmpp_2m",
    class: CLASS,
    title: "DPM++ 2M",
    default_steps: 25,
    takes_eta: false,
    takes_karras: true,
    takes_renoise: false,
    takes_zero_terminal_snr: true,
    build: |config, steps, options| Ok(Box::new(DpmSolverPlusPlus::new(config, steps, options)?)),
};

/// A DPM-Solver++ 2M sampler and its previous prediction of x_0.
#[derive(Debug)]
pub struct DpmSolverPlusPlus {
    grid: SigmaGrid,
    prediction_type: PredictionType,
    /// Whether the last step is of first order despite an older prediction.
    plain_end: bool,
    older: Option<Tensor>,
}

/// A noise level in the solver's terms.
#[derive(Clone, Copy)]
struct Level {
    signal: f32,
    sigma: f32,
    /// ln(signal / sigma), half the log of the SNR.
    lambda: f32,
}

impl Level {
    fn of(sigma: f32) -> Self {
        let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
        let scaled = sigma * signal;
        Self { signal, sigma: scaled, lambda: signal.ln() - scaled.ln() }
    }
}

impl DpmSolverPlusPlus {
    /// The sampler of `DPMSolverMultistepScheduler.from_config` for `config`.
    ///
    /// # Errors
    /// Steps that the model lacks or that visit a level twice; a file with another solver of that class.
    pub fn new(config: &SchedulerConfig, steps: i64, options: &SamplerOptions) -> Result<Self> {
        check_solver(config)?;
        let table = SigmaTable::new(config)?;
        let grid = if SCHEDULER.uses_karras(config, options.karras)? {
            check_steps(config, steps)?;
            let (least, most) = table.ends();
            let mut grid = table.karras(config, steps, most, least)?;
            grid.timesteps.iter_mut().for_each(|t| *t = t.round_ties_even());
            grid
        } else {
            table.at(timesteps(config, steps)?)
        };
        let few = config.flag("lower_order_final")?.unwrap_or(true) && grid.timesteps.len() < FEW_STEPS;
        let ends_without_noise = grid.sigmas.last() == Some(&0.0);
        let plain_end = few || ends_without_noise || config.flag("euler_at_final")?.unwrap_or(false);
        Ok(Self { grid, prediction_type: config.prediction_type, plain_end, older: None })
    }

    /// A sampler through the levels of `grid`, of second order in all steps but the first.
    pub fn through(grid: SigmaGrid, prediction_type: PredictionType) -> Result<Self> {
        if grid.sigmas.len() != grid.timesteps.len() + 1 {
            return Err(Error::Invalid("a grid of noise levels needs one level more than timesteps".to_string()));
        }
        Ok(Self { grid, prediction_type, plain_end: false, older: None })
    }

    /// The noise levels, one more than calls.
    pub fn sigmas(&self) -> &[f32] {
        &self.grid.sigmas
    }

    /// D_1 of the paper: change of the predicted x_0 over a step of `h`; None for a step of first order.
    fn change(&self, call: usize, x0: &Tensor, h: f32) -> Option<Tensor> {
        let older = self.older.as_ref()?;
        if self.plain_end && call + 1 == self.grid.timesteps.len() {
            return None;
        }
        let now = Level::of(self.grid.sigmas[call]);
        let before = Level::of(self.grid.sigmas[call - 1]);
        let ratio = (now.lambda - before.lambda) / h;
        Some((x0 - older) * f64::from(1.0 / ratio))
    }
}

impl Sampler for DpmSolverPlusPlus {
    fn timesteps(&self) -> &[f64] {
        &self.grid.timesteps
    }

    fn step(
        &mut self,
        call: usize,
        prediction: &Prediction,
        latents: &Tensor,
        _noise: &mut dyn FnMut() -> Tensor,
    ) -> Tensor {
        let (now, next) = (Level::of(self.grid.sigmas[call]), Level::of(self.grid.sigmas[call + 1]));
        let (signal, sigma) = (Tensor::from(now.signal), Tensor::from(now.sigma));
        let x0 = self.prediction_type.estimate(&prediction.guided, latents, &signal, &sigma).x0;
        let h = next.lambda - now.lambda;
        let weight = f64::from(next.signal * ((-h).exp() - 1.0));
        let x = latents.to_kind(step_kind(latents));
        let first = x * f64::from(next.sigma / now.sigma) - &x0 * weight;
        let stepped = match self.change(call, &x0, h) {
            Some(change) => first - change * (0.5 * weight),
            None => first,
        };
        self.older = Some(x0);
        stepped.to_kind(latents.kind())
    }
}

fn check_solver(config: &SchedulerConfig) -> Result<()> {
    config.refuse_flags(&[
        "thresholding",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_lu_lambdas",
        "use_flow_sigmas",
    ])?;
    // Replacements of these two in diffusers for files of other classes.
    config.refuse_other_texts("algorithm_type", &["dpmsolver++", "deis"])?;
    config.refuse_other_texts("solver_type", &["midpoint", "logrho", "bh1", "bh2"])?;
    config.refuse_other_texts("variance_type", &["fixed_small", "fixed_large"])?;
    for (key, implemented) in [("solver_order", 2.0), ("lambda_min_clipped", f64::NEG_INFINITY)] {
        if let Some(found) = config.number(key)?.filter(|found| *found != implemented) {
            let found = format!("{found}, which is not implemented");
            return Err(Error::config(&config.path, key, implemented.to_string(), found));
        }
    }
    Ok(())
}

/// Whole timesteps: n + 1 of the others' without the last, except for trailing spacing.
fn timesteps(config: &SchedulerConfig, steps: i64) -> Result<Vec<f64>> {
    check_steps(config, steps)?;
    let spacing = config.timestep_spacing.unwrap_or(TimestepSpacing::Linspace);
    let (total, offset) = (config.num_train_timesteps, config.steps_offset_of(CLASS));
    let more = i64::from(spacing != TimestepSpacing::Trailing);
    let mut whole = rounded(evenly(spacing, total, steps + more, offset));
    whole.truncate(steps as usize);
    check_start(config, &whole, steps)?;
    if let Some(pair) = whole.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::Invalid(format!(
            "{steps} sampling steps visit timestep {} twice, and dpmpp_2m divides by the distance of two visits; take fewer",
            pair[0]
        )));
    }
    Ok(whole.into_iter().map(|t| t as f64).collect())
}
