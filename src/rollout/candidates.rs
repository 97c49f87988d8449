//! Trajectories that go on from one of several candidates at every step, and the pairs of candidates that training reads
//! (spo and tailorpo: docs/methods.md, sections 10b and 10d).

use super::asked::{Asked, At};
use super::kept::{Keeping, KeptUnit};
use super::pictures::Pictures;
use super::recorded::{Found, Rule};
use super::trajectories::{Trajectory, advance, walk};
use super::units::Grid;
use crate::data::draws::Draws;
use crate::objectives::best_and_worst;
use crate::scorers::Ratings;
use anyhow::Result;
use pipelines::schedulers::{Prediction, StochasticSampler, Transitions};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Which candidates become a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CandidateLaw {
    /// k
    pub candidates: usize,
    /// A pair is kept where tanh((s_best - s_worst) / 2) is above it.
    pub threshold: f64,
    /// Calls before the first that branches.
    pub skip_steps: usize,
    /// Steps that a candidate is denoised before it is rated.
    pub denoise_ahead: usize,
}

/// Where branching trajectories take what they need beside the networks.
pub struct Branching<'a> {
    pub law: CandidateLaw,
    pub rule: Rule,
    /// The same steps without noise.
    pub ahead: &'a dyn StochasticSampler,
    pub pictures: &'a Pictures<'a>,
    pub draws: Draws,
    pub iteration: u64,
    pub grid: Grid,
    /// Indices of the iteration's prompts in the file.
    pub prompts: &'a [usize],
}

/// The pairs of an iteration, by trajectory and call: in that order, whatever was sampled together.
pub type Pairs = BTreeMap<(usize, usize), KeptUnit>;

/// Samples trajectories together, adds the pairs that are kept, and returns the latents of their pictures `[B, C, h, w]`;
/// `None` once `on_call` said false.
pub fn sample(
    asked: &Asked,
    trajectories: &[Trajectory],
    branching: &Branching,
    keeping: &mut Keeping,
    pairs: &mut Pairs,
    on_call: &dyn Fn(usize) -> bool,
) -> Result<Option<Tensor>> {
    let mut step = |at: &At, step: &Transitions, noise: &Tensor| {
        let call = at.calls[0];
        if call < branching.law.skip_steps || !asked.sampler.adds_noise(call) {
            return Ok(Some(advance(step, noise)));
        }
        branch(asked, trajectories, branching, at, step, keeping, pairs, on_call)
    };
    walk(asked, trajectories, &mut step, on_call)
}

/// One step: candidates are drawn and rated, the best and the worst of each trajectory become a pair, and each goes on
/// from a candidate chosen at random: going on from the best one leaves what the model samples.
#[allow(clippy::too_many_arguments)]
fn branch(
    asked: &Asked,
    trajectories: &[Trajectory],
    branching: &Branching,
    at: &At,
    step: &Transitions,
    keeping: &mut Keeping,
    pairs: &mut Pairs,
    on_call: &dyn Fn(usize) -> bool,
) -> Result<Option<Tensor>> {
    let call = at.calls[0];
    let candidates = drawn(asked, trajectories, branching, call, step); // k times [B, C, h, w]
    let mut scores = Vec::new();
    for candidate in &candidates {
        let Some(rated) = rate(asked, branching, candidate, call + 1, at.prompts, on_call)? else { return Ok(None) };
        scores.push(rated);
    }
    let mut found = Vec::new();
    for row in 0..trajectories.len() {
        let mut group = Ratings::default();
        scores.iter().for_each(|rated| group.extend(rated.select(&[row])));
        let shaped = branching.pictures.rewards.shaped(&group);
        if let Some([best, worst]) = best_and_worst(&shaped, branching.law.threshold) {
            found.push(Pair { row, best, worst, scores: vec![shaped[best], shaped[worst]] });
        }
    }
    keep(asked, (trajectories, at, step), &candidates, found, branching.rule, keeping, pairs)?;
    let go_on: Result<Vec<Tensor>> = trajectories
        .iter()
        .enumerate()
        .map(|(row, trajectory)| {
            let (prompt, j) = place(branching, trajectory);
            let mut generator = branching.draws.choose(branching.iteration, "continue", &[call, prompt, j]);
            let k = generator.randint(candidates.len() as i64)?;
            Ok(candidates[k as usize].get(row as i64))
        })
        .collect();
    Ok(Some(Tensor::f_stack(&go_on?, 0)?))
}

/// Index of a trajectory's prompt in the file, and its number among those of the prompt.
fn place(branching: &Branching, trajectory: &Trajectory) -> (usize, usize) {
    let (prompt, j) = branching.grid.place(trajectory.index);
    (branching.prompts[prompt], j)
}

/// k times `[B, C, h, w]` float32.
fn drawn(
    asked: &Asked,
    trajectories: &[Trajectory],
    branching: &Branching,
    call: usize,
    step: &Transitions,
) -> Vec<Tensor> {
    let k = branching.law.candidates;
    let shape = &step.mean.size()[1..];
    let noise: Vec<Tensor> = trajectories
        .iter()
        .map(|trajectory| {
            let (prompt, j) = place(branching, trajectory);
            let all = branching.grid.per_prompt * k;
            let noise = branching.draws.candidates(branching.iteration, call, prompt, all, shape);
            noise.narrow(0, (j * k) as i64, k as i64)
        })
        .collect();
    let noise = Tensor::stack(&noise, 1).to_device(asked.networks.machine.device); // [k, B, C, h, w]
    (0..k as i64).map(|candidate| advance(step, &noise.get(candidate))).collect()
}

/// What the pictures that candidates `[B, C, h, w]` lead to are worth; `call` is the one that comes next.
fn rate(
    asked: &Asked,
    branching: &Branching,
    candidates: &Tensor,
    call: usize,
    prompts: &[usize],
    on_call: &dyn Fn(usize) -> bool,
) -> Result<Option<Ratings>> {
    let calls = asked.sampler.timesteps().len();
    let (mut latents, mut call) = (candidates.shallow_clone(), call);
    let mut ahead = branching.law.denoise_ahead;
    while call < calls {
        let now = vec![call; prompts.len()];
        let at = At { latents: &latents, calls: &now, prompts };
        let prediction = Prediction::from(asked.policy(&at)?);
        let double = latents.to_kind(Kind::Double);
        if !on_call(prompts.len()) {
            return Ok(None);
        }
        if ahead == 0 {
            let t = asked.sampler.timesteps()[call] as i64;
            let x0 = asked.sampler.x0(call, &prediction, &double).to_kind(Kind::Float);
            return branching.pictures.rate(&x0, t, prompts).map(Some);
        }
        latents = branching.ahead.transitions(&now, &prediction, &double).mean.to_kind(Kind::Float);
        (ahead, call) = (ahead - 1, call + 1);
    }
    branching.pictures.rate(&latents, 0, prompts).map(Some)
}

/// The candidates of a trajectory that are trained on.
struct Pair {
    row: usize,
    best: usize,
    worst: usize,
    scores: Vec<f64>,
}

/// Keeps both transitions of every pair.
fn keep(
    asked: &Asked,
    (trajectories, at, step): (&[Trajectory], &At, &Transitions),
    candidates: &[Tensor],
    found: Vec<Pair>,
    rule: Rule,
    keeping: &mut Keeping,
    pairs: &mut Pairs,
) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let rows: Vec<usize> = found.iter().map(|pair| pair.row).collect();
    let side = |of: &dyn Fn(&Pair) -> usize| {
        let ends: Vec<Tensor> = found.iter().map(|pair| candidates[of(pair)].get(pair.row as i64)).collect();
        Tensor::f_stack(&ends, 0)
    };
    let ends = [side(&|pair| pair.best)?, side(&|pair| pair.worst)?];
    let kept = Found { at, step, trajectories, rows: &rows, ends: &ends, goes_on: false }.keep(asked, rule, keeping)?;
    for (pair, kept) in found.into_iter().zip(kept) {
        let (trajectory, call) = (trajectories[pair.row].index, at.calls[pair.row]);
        let id = format!("step {call} of trajectory {trajectory}");
        let members = kept.into_iter().map(|transition| vec![transition]).collect();
        pairs.insert((trajectory, call), KeptUnit { id, members, scores: pair.scores, ..KeptUnit::default() });
    }
    Ok(())
}
