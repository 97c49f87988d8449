//! Whole trajectories: DDIM with eta under guidance, batched over prompts (docs/methods.md, section 10).

use super::asked::{Asked, At};
use super::grid::Trajectory;
use super::kept::Keeping;
use super::recorded::{Ends, Rule};
use anyhow::Result;
use pipelines::schedulers::Transitions;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Destination of a call, `[B, C, h, w]`, given the trajectories' states, p(x_p | x_t) there, and the noise of the
/// call; `None` ends the walk.
type Step<'a> = dyn FnMut(&At, &Transitions, &Tensor) -> Result<Option<Tensor>> + 'a;

/// Runs trajectories together through every call of the sampler. Returns the latents of their pictures
/// `[B, C, h, w]`; `None` once `step` or `on_call` ends it.
pub fn walk(
    asked: &Asked,
    trajectories: &[Trajectory],
    step: &mut Step,
    on_call: &dyn Fn(usize) -> bool,
) -> Result<Option<Tensor>> {
    let _frozen = tch::no_grad_guard();
    let noise: Vec<&Tensor> = trajectories.iter().map(|t| &t.noise).collect();
    let noise = Tensor::f_stack(&noise, 1)?.to_device(asked.networks.machine.device); // [1 + steps, B, C, h, w]
    let prompts: Vec<usize> = trajectories.iter().map(|t| t.prompt).collect();
    let mut latents = noise.get(0);
    for call in 0..asked.sampler.timesteps().len() {
        let at = At { latents: &latents, calls: &vec![call; trajectories.len()], prompts: &prompts };
        let transitions = asked.transitions(&at, &asked.policy(&at)?);
        let Some(next) = step(&at, &transitions, &noise.get(call as i64 + 1))? else { return Ok(None) };
        latents = next;
        if !on_call(trajectories.len()) {
            return Ok(None);
        }
    }
    Ok(Some(latents))
}

/// Samples trajectories together and keeps the transitions of `wanted(trajectory, call)`. Returns the latents of
/// their pictures `[B, C, h, w]`; `None` once `on_call` returns false. `indices` receives the index of each kept
/// transition.
pub fn sample(
    asked: &Asked,
    trajectories: &[Trajectory],
    wanted: &dyn Fn(usize, usize) -> bool,
    rule: Rule,
    keeping: &mut Keeping,
    indices: &mut BTreeMap<(usize, usize), usize>,
    on_call: &dyn Fn(usize) -> bool,
) -> Result<Option<Tensor>> {
    let mut step = |at: &At, step: &Transitions, noise: &Tensor| {
        let next = advance(step, noise);
        let of = |row: usize| (trajectories[row].index, at.calls[row]);
        let rows: Vec<usize> = (0..trajectories.len()).filter(|row| wanted(of(*row).0, of(*row).1)).collect();
        if !rows.is_empty() {
            let index: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
            let ends = [next.index_select(0, &Tensor::from_slice(&index).to_device(next.device()))];
            let found = Ends { at, step, trajectories, rows: &rows, ends: &ends, goes_on: true };
            let kept = found.keep(asked, rule, keeping)?;
            indices.extend(rows.iter().map(|row| of(*row)).zip(kept.into_iter().flatten()));
        }
        Ok(Some(next))
    };
    walk(asked, trajectories, &mut step, on_call)
}

/// mean + std noise, float32.
pub fn advance(step: &Transitions, noise: &Tensor) -> Tensor {
    let std = step.std.reshape([-1, 1, 1, 1]);
    (&step.mean + std * noise.to_kind(Kind::Double)).to_kind(Kind::Float)
}
