//! [rollout] and [reward] together with the method that samples: its defaults, and combinations without meaning.

use super::Result;
use super::combinations::Combination;
use super::resolve::{Facts, method};
use crate::objectives::self_npo::GRID;
use crate::objectives::{Candidates, Lists, Rollouts, Units};
use toml::{Table, Value};

/// rollout.prompts_per_iteration, if there are as many.
const PROMPTS_PER_ITERATION: i64 = 8;
/// Updates of an iteration that draws lists from the kept units repeatedly, without passes (docs/methods.md, section
/// 3).
const LIST_UPDATES: i64 = 4000;

impl Combination<'_> {
    /// Fills in the sampling defaults of the method, and refuses settings without a gradient.
    pub(super) fn rollouts(&mut self, rollouts: &Rollouts) -> Result<()> {
        let defaults = [
            ("trajectories", Value::Integer(rollouts.trajectories)),
            ("steps", Value::Integer(rollouts.steps)),
            ("eta", Value::Float(rollouts.eta)),
            ("guidance_scale", Value::Float(rollouts.guidance_scale)),
        ];
        if let Some(Value::Table(table)) = self.checked.get_mut("rollout") {
            for (key, default) in defaults {
                table.entry(key).or_insert(default);
            }
            if table.get("updates_per_iteration").is_some_and(Value::is_str) {
                match rollouts.units {
                    Units::Lists(_) => table.insert("updates_per_iteration".into(), Value::Integer(LIST_UPDATES)),
                    _ => table.remove("updates_per_iteration"),
                };
            }
        }
        self.trajectories(rollouts)?;
        self.steps_of_trajectories(rollouts.units)?;
        self.frozen_reference()
    }

    fn number(&self, table: &str, key: &str) -> Option<f64> {
        let value = self.checked.get(table)?.get(key)?;
        value.as_float().or_else(|| value.as_integer().map(|i| i as f64))
    }

    fn trajectories(&self, rollouts: &Rollouts) -> Result<()> {
        let (name, trajectories) = (self.entry.name, self.number("rollout", "trajectories").unwrap_or(1.0));
        if let Some(exact) = rollouts.units.exactly().filter(|exact| trajectories != *exact as f64) {
            return self.refuse(
                "rollout",
                "trajectories",
                format!("rollout.trajectories = {trajectories}: method.name = \"{name}\" is defined for exactly {exact} of a prompt. Remove the key."),
            );
        }
        if let Units::Lists(Lists { trajectories_per_loss: wanted, .. }) = rollouts.units
            && wanted as f64 > trajectories
        {
            return self.refuse(
                "method",
                "trajectories_per_loss",
                format!("method.trajectories_per_loss = {wanted}: expected at most rollout.trajectories = {trajectories}. Lower it, or sample more."),
            );
        }
        let shaping = self.text("reward", "shaping");
        if trajectories == 1.0 && shaping != "none" && !matches!(rollouts.units, Units::Candidates(_)) {
            return self.refuse(
                "reward",
                "shaping",
                format!("reward.shaping = \"{shaping}\" with rollout.trajectories = 1: a picture is compared with the others of its prompt, so every reward would be the same. Set rollout.trajectories to 2 or more, or reward.shaping = \"none\"."),
            );
        }
        Ok(())
    }

    fn steps_of_trajectories(&self, units: Units) -> Result<()> {
        let name = self.entry.name;
        if self.number("rollout", "eta") == Some(0.0) {
            return self.refuse(
                "rollout",
                "eta",
                format!("rollout.eta = 0 does not go with method.name = \"{name}\", which trains the probabilities of steps: without noise (sigma = 0) a step has none. Set rollout.eta = 1, or another number in (0, 1]."),
            );
        }
        let steps = self.number("rollout", "steps");
        match (steps, units) {
            (Some(steps), Units::Candidates(Candidates { skip_steps: skipped, .. })) if skipped as f64 >= steps => self.refuse(
                "method",
                "skip_steps",
                format!("method.skip_steps = {skipped} with rollout.steps = {steps}: no step is left to train on. Lower method.skip_steps below rollout.steps."),
            ),
            _ => Ok(()),
        }
    }

    /// Probabilities are compared with those of the start model, or of the sampling policy.
    fn frozen_reference(&self) -> Result<()> {
        if self.text("reference", "kind") != "updated" {
            return Ok(());
        }
        self.refuse(
            "reference",
            "kind",
            format!("reference.kind = \"updated\" does not go with method.name = \"{}\", whose reference is the start model. Remove the key.", self.entry.name),
        )
    }
}

/// Updates of the weights in an iteration; `None`: known only after its pictures are rated.
///
/// `table`: a configuration with [rollout]. `rollouts`: those of the method; `None`: it takes prompts one by one.
/// `per_step`: units per update.
pub(super) fn updates_of_iteration(table: &Table, rollouts: Option<&Rollouts>, per_step: f64) -> Option<f64> {
    let rollout = table.get("rollout")?;
    let number = |key: &str| rollout.get(key).and_then(Value::as_integer).map(|i| i as f64);
    if let Some(updates) = number("updates_per_iteration") {
        return Some(updates);
    }
    let prompts = number("prompts_per_iteration")?;
    let units = match rollouts.map(|rollouts| rollouts.units) {
        None => prompts,
        Some(Units::Steps { .. }) => prompts * number("trajectories")? * number("steps")?,
        // The two trajectories of a prompt form one pair per step.
        Some(Units::Trajectories) => prompts * number("steps")?,
        Some(Units::Candidates(_) | Units::Lists(_)) => return None,
    };
    Some((units / per_step).ceil())
}

/// Values determined by the model and the prompts.
pub(super) fn resolve(table: &mut Table, facts: &Facts) -> std::result::Result<(), String> {
    let (method, timesteps) = (method(table)?, facts.timesteps);
    if method.needs.truncated.is_some() && timesteps < GRID {
        return Err(format!(
            "method.name = \"{}\" starts from one of {GRID} levels of noise, and this model has {timesteps} timesteps. Take a model with {GRID} or more, or another method.",
            method.name()
        ));
    }
    let Some(Value::Table(rollout)) = table.get_mut("rollout") else { return Ok(()) };
    let prompts = facts.prompts as i64;
    let wanted = rollout.get("prompts_per_iteration").and_then(Value::as_integer);
    match wanted {
        Some(wanted) if wanted > prompts => {
            return Err(format!(
                "rollout.prompts_per_iteration = {wanted}: expected at most {prompts}, the prompts of rollout.prompts. Lower it, or give more prompts."
            ));
        }
        Some(_) => {}
        None => {
            let all = Value::Integer(prompts.min(PROMPTS_PER_ITERATION));
            rollout.insert("prompts_per_iteration".into(), all);
        }
    }
    match rollout.get("steps").and_then(Value::as_integer) {
        Some(steps) if steps > facts.timesteps => {
            Err(format!("rollout.steps = {steps}: expected at most {}, the timesteps of this model.", facts.timesteps))
        }
        _ => Ok(()),
    }
}
