//! From a configuration as written, and the facts of model, data and machine, to the one that is run.

use super::facts::{Facts, Refusal};
use super::parsed::{Parsed, Validate};
use super::resolved::Settings;
use super::tables::validate::ValidateConfig;
use crate::keys::{Auto, ConfigError, Result};
use crate::objectives::self_npo::GRID;
use crate::objectives::{Inversion, InversionGrid, MethodSettings, WholeStep};

impl Parsed {
    /// Fills in every "auto" and checks what needs the facts.
    ///
    /// # Errors
    /// A value that does not go with model or data: the text names file and key.
    pub fn resolve(&self, facts: &Facts) -> Result<Settings> {
        self.settings(facts).map_err(|text| ConfigError(format!("{}: {text}", self.file)))
    }

    fn settings(&self, facts: &Facts) -> std::result::Result<Settings, Refusal> {
        let model = self.model.resolve(facts)?;
        let data = self.pictures.resolve(self.items.clone(), facts)?;
        let method = method(&self.method, facts)?;
        let timesteps = self.timesteps.as_ref().map(|timesteps| timesteps.resolve(facts)).transpose()?;
        let method = with_score_range(method, facts)?;
        check_chances(&method, facts)?;
        check_inversion(&method, facts)?;
        check_grid(&method, facts)?;
        let units = method.needs.rollouts.as_ref().map(|rollouts| rollouts.units);
        let sampled =
            self.rollout.as_ref().zip(method.needs.rollouts.as_ref()).map(|(keys, own)| keys.trajectories(own));
        let rollout = self.starts.as_ref().map(|starts| starts.resolve(sampled, facts)).transpose()?;
        let per_epoch = |per_step: f64| match &rollout {
            Some(rollout) => rollout.updates(units, per_step),
            None => Some(facts.items as f64 / per_step),
        };
        let train = self.train.resolve(&self.file, facts, &per_epoch)?;
        check_step(&method, train.pairs_per_step())?;
        Ok(Settings {
            model,
            data,
            validate: self.validate.clone().map(|Validate { held_out, often }| ValidateConfig {
                held_out,
                every: often.every,
                draws: often.draws,
            }),
            safeguard: self.safeguard.as_ref().and_then(|safeguard| safeguard.resolve(&method.needs, facts)),
            method,
            timesteps,
            reference: self.reference.as_ref().map(|reference| reference.resolve(facts)),
            weights: self.weights.as_ref().map(|weights| weights.resolve()),
            lora: self.lora.resolve(),
            optim: self.optim.resolve(),
            ema: self.ema.clone(),
            train,
            sample: self.sample.resolve(facts),
            rollout,
            reward: self.reward.clone(),
            log: self.log.clone(),
        })
    }
}

fn method(method: &MethodSettings, facts: &Facts) -> std::result::Result<MethodSettings, Refusal> {
    method.with_family(facts.family).map_err(|e| e.to_string())
}

/// `method.score_range = "auto"` becomes the range of the training pairs.
fn with_score_range(method: MethodSettings, facts: &Facts) -> std::result::Result<MethodSettings, Refusal> {
    let Some((scores, range)) = method.needs.scores.as_ref().and_then(|scores| Some((scores, scores.range?))) else {
        return Ok(method);
    };
    match range {
        Auto::Given([low, high]) if low < high => Ok(method),
        Auto::Given([low, high]) => {
            Err(format!("method.score_range = [{low}, {high}]: expected the lowest score below the highest."))
        }
        Auto::Auto => match facts.score_range {
            Some([low, high]) if low < high => method.with_score_range([low, high]).map_err(|e| e.to_string()),
            found => {
                let found = found.map_or("there are none".into(), |[low, _]| format!("all are {low}"));
                Err(format!(
                    "method.score_range = \"auto\": expected scores of \"{}\" that differ, {found}. Give [lowest, highest], or take another scorer.",
                    scores.scorer.as_deref().unwrap_or_default()
                ))
            }
        },
    }
}

/// Scores that the loss reads as chances lie in [0, 1].
fn check_chances(method: &MethodSettings, facts: &Facts) -> std::result::Result<(), Refusal> {
    let Some(scores) = method.needs.scores.as_ref().filter(|scores| scores.chances) else { return Ok(()) };
    match facts.score_range {
        Some([low, high]) if low < 0.0 || high > 1.0 => Err(format!(
            "method.name = \"{}\" reads the scores \"{}\" as chances: expected numbers in [0, 1], found [{low}, {high}]. Correct the rows, or take another method.",
            method.name(),
            scores.scorer.as_deref().unwrap_or_default()
        )),
        Some(_) | None => Ok(()),
    }
}

/// A loss that compares the items of a step needs enough of them, in whole blocks.
fn check_step(method: &MethodSettings, items: u64) -> std::result::Result<(), Refusal> {
    let Some(WholeStep { least, block }) = method.needs.whole_step else { return Ok(()) };
    let (name, noun) = (method.name(), method.needs.items.noun());
    if items < least {
        return Err(format!(
            "method.name = \"{name}\" compares the {noun} of a step: expected at least {least} of them, found {items} \
             (train.micro_batch times train.grad_accum). Raise train.grad_accum."
        ));
    }
    match block {
        Some(block) if !items.is_multiple_of(block) => Err(format!(
            "method.name = \"{name}\" compares blocks of method.block = {block} {noun}: expected a multiple of {block} per \
             step, found {items} (train.micro_batch times train.grad_accum). Change method.block or train.grad_accum."
        )),
        Some(_) | None => Ok(()),
    }
}

/// The published grid of an inversion has whole steps.
fn check_inversion(method: &MethodSettings, facts: &Facts) -> std::result::Result<(), Refusal> {
    let total = facts.timesteps;
    match method.needs.inversion {
        Some(Inversion { steps, .. }) if steps > total => {
            Err(format!("method.inversion_steps = {steps}: expected at most {total}, the timesteps of this model."))
        }
        Some(Inversion { steps, grid: InversionGrid::Published, .. }) if total % steps != 0 => Err(format!(
            "method.inversion_steps = {steps} with method.inversion = \"published\": expected a divisor of {total}, the timesteps of this model. Take 5 or 10."
        )),
        Some(Inversion { grid: InversionGrid::Exact | InversionGrid::Published, .. }) | None => Ok(()),
    }
}

fn check_grid(method: &MethodSettings, facts: &Facts) -> std::result::Result<(), Refusal> {
    let timesteps = facts.timesteps;
    if method.needs.truncated.is_none() || timesteps >= GRID {
        return Ok(());
    }
    Err(format!(
        "method.name = \"{}\" starts from one of {GRID} levels of noise, and this model has {timesteps} timesteps. Take a model with {GRID} or more, or another method.",
        method.name()
    ))
}
