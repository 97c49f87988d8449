//! Whole trajectories: DDIM with eta under guidance, batched over prompts (docs/methods.md, section 10).

use super::asked::{Asked, At};
use super::kept::{Keeping, Kept};
use crate::objectives::{Other, numbers};
use anyhow::Result;
use pipelines::schedulers::Sampler;
use pipelines::schedulers::ddim::{Transitions, log_prob};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// One trajectory of an iteration.
#[derive(Debug)]
pub struct Trajectory {
    /// Its number in the iteration.
    pub index: usize,
    /// Place of its prompt among those of the iteration.
    pub prompt: usize,
    /// x_T and the noise of every call, `[1 + steps, C, h, w]`.
    pub noise: Tensor,
}

/// Where a call leads, `[B, C, h, w]`, from where trajectories are, p(x_p | x_t) there, and the noise of the call; `None` ends
/// the walk.
type Step<'a> = dyn FnMut(&At, &Transitions, &Tensor) -> Result<Option<Tensor>> + 'a;

/// Takes trajectories together through every call of the sampler. Returns the latents of their pictures `[B, C, h, w]`; `None`
/// once `step` or `on_call` ended it.
pub fn walk(
    asked: &Asked,
    trajectories: &[Trajectory],
    step: &mut Step,
    on_call: &dyn Fn(usize) -> bool,
) -> Result<Option<Tensor>> {
    let _frozen = tch::no_grad_guard();
    let noise: Vec<&Tensor> = trajectories.iter().map(|t| &t.noise).collect();
    let noise = Tensor::f_stack(&noise, 1)?.to_device(asked.machine.device); // [1 + steps, B, C, h, w]
    let prompts: Vec<usize> = trajectories.iter().map(|t| t.prompt).collect();
    let mut latents = noise.get(0);
    for call in 0..asked.ddim.timesteps().len() {
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

/// Samples trajectories together and keeps the transitions that `wanted(trajectory, call)` names. Returns the latents of
/// their pictures `[B, C, h, w]`; `None` once `on_call` said false. `indices` learns where each transition is kept.
pub fn sample(
    asked: &Asked,
    trajectories: &[Trajectory],
    rule: &Rule,
    keeping: &mut Keeping,
    indices: &mut BTreeMap<(usize, usize), usize>,
    on_call: &dyn Fn(usize) -> bool,
) -> Result<Option<Tensor>> {
    let mut step = |at: &At, step: &Transitions, noise: &Tensor| {
        let next = advance(step, noise);
        let wanted = |row: &usize| (rule.wanted)(trajectories[*row].index, at.calls[*row]);
        let rows: Vec<usize> = (0..trajectories.len()).filter(wanted).collect();
        if !rows.is_empty() {
            keep(asked, trajectories, rule, &Found { at, step, next: &next, rows: &rows }, keeping, indices)?;
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

/// What is kept of trajectories.
pub struct Rule<'a> {
    /// Of trajectory and call.
    pub wanted: &'a dyn Fn(usize, usize) -> bool,
    pub other: Other,
    /// The start model's prediction is kept too.
    pub drift: bool,
}

/// A call of a batch, and which of its rows are kept.
struct Found<'a> {
    at: &'a At<'a>,
    step: &'a Transitions,
    next: &'a Tensor,
    rows: &'a [usize],
}

fn keep(
    asked: &Asked,
    trajectories: &[Trajectory],
    rule: &Rule,
    found: &Found,
    keeping: &mut Keeping,
    indices: &mut BTreeMap<(usize, usize), usize>,
) -> Result<()> {
    let index: Vec<i64> = found.rows.iter().map(|row| *row as i64).collect();
    let index = Tensor::from_slice(&index).to_device(asked.machine.device);
    let (from, next) = (found.at.latents.index_select(0, &index), found.next.index_select(0, &index));
    let calls: Vec<usize> = found.rows.iter().map(|row| found.at.calls[*row]).collect();
    let prompts: Vec<usize> = found.rows.iter().map(|row| found.at.prompts[*row]).collect();
    let at = At { latents: &from, calls: &calls, prompts: &prompts };
    let start = match rule.other == Other::Start || rule.drift {
        true => Some(asked.start(&at)?),
        false => None,
    };
    keeping.asked_start += if start.is_some() { found.rows.len() } else { 0 };
    let own = |t: &Tensor| t.index_select(0, &index);
    let sampled = log_prob(&own(&found.step.mean), &own(&found.step.std), &next.to_kind(Kind::Double));
    let sampled = numbers(&sampled);
    let of_start = start.as_ref().map(|start| numbers(&asked.log_prob(&at, start, &next)));
    if let Some(of_start) = &of_start {
        keeping.drift.extend(sampled.iter().zip(of_start).map(|(own, start)| own - start));
    }
    let log_probs = match (rule.other, of_start) {
        (Other::Start, Some(of_start)) => of_start,
        _ => sampled,
    };
    for (i, row) in found.rows.iter().enumerate() {
        let trajectory = trajectories[*row].index;
        let (i, call) = (i as i64, calls[i]);
        let kept = Kept {
            prompt: prompts[i as usize],
            call,
            from: keeping.state(trajectory, call, &from.get(i)),
            to: keeping.state(trajectory, call + 1, &next.get(i)),
            log_prob: log_probs[i as usize],
            start: start.as_ref().filter(|_| rule.drift).map(|start| keeping.store.push(&start.get(i))),
        };
        indices.insert((trajectory, call), keeping.add(kept));
    }
    Ok(())
}
