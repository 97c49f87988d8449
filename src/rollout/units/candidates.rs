//! The best and the worst of several candidates of a step. Trajectories continue from a random candidate (spo and
//! tailorpo: docs/methods.md, sections 10b and 10d).

use crate::objectives::{Candidates, best_and_worst};
use crate::rollout::advantages::Advantages;
use crate::rollout::asked::{Asked, At};
use crate::rollout::grid::Trajectory;
use crate::rollout::kept::{Keeping, KeptUnit};
use crate::rollout::maker::{Counts, Found, Iteration, Pairs, Rewarded, Sampling, UnitMaker};
use crate::rollout::recorded::{Ends, Rule};
use crate::rollout::trajectories::{advance, walk};
use crate::scorers::Ratings;
use anyhow::Result;
use pipelines::schedulers::{Prediction, Transitions};
use tch::{Kind, Tensor};

impl UnitMaker for Candidates {
    fn sample(&self, batch: &[Trajectory], sampling: &Sampling, found: &mut Found) -> Result<Option<Tensor>> {
        let branching = &Branching { law: *self, sampling };
        let asked = sampling.asked;
        let mut step = |at: &At, step: &Transitions, noise: &Tensor| {
            let call = at.calls[0];
            if call < self.skip_steps || !asked.sampler.adds_noise(call) {
                return Ok(Some(advance(step, noise)));
            }
            branch(asked, batch, branching, at, step, &mut found.keeping, &mut found.pairs, sampling.on_call)
        };
        walk(asked, batch, &mut step, sampling.on_call)
    }

    /// The pairs made while sampling, each in its own group.
    fn make(
        &self,
        _: &Iteration,
        _: &Rewarded,
        found: &mut Found,
        _: &mut Option<Advantages>,
    ) -> Result<Vec<KeptUnit>> {
        let pairs = std::mem::take(&mut found.pairs).into_values().enumerate();
        Ok(pairs.map(|(group, unit)| KeptUnit { group, ..unit }).collect())
    }

    fn rows(&self, counts: &Counts) -> u64 {
        counts.trajectories * counts.calls.saturating_sub(self.skip_steps as u64) * (3 + counts.beside)
    }

    fn extra_calls(&self, calls: usize) -> usize {
        let after = |call: usize| (calls - call - 1).min(self.denoise_ahead + 1);
        (self.skip_steps..calls).map(|call| self.candidates * after(call)).sum()
    }

    fn skipped(&self) -> usize {
        self.skip_steps
    }

    fn why_empty(&self) -> &'static str {
        "no candidates of a step were further apart than method.threshold. Look at [reward], and lower the threshold; more candidates or another seed may help too."
    }
}

/// Candidates with the inputs of sampling.
struct Branching<'a> {
    law: Candidates,
    sampling: &'a Sampling<'a>,
}

/// One step: candidates are drawn and rated, the best and the worst of each trajectory form a pair, and each
/// trajectory continues from a random candidate: the best one would leave the policy's distribution.
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
        let shaped = branching.sampling.pictures.rewards.shaped(&group);
        if let Some([best, worst]) = best_and_worst(&shaped, branching.law.threshold) {
            found.push(Pair { row, best, worst, scores: vec![shaped[best], shaped[worst]] });
        }
    }
    keep(asked, (trajectories, at, step), &candidates, found, branching.sampling.rule, keeping, pairs)?;
    let go_on: Result<Vec<Tensor>> = trajectories
        .iter()
        .enumerate()
        .map(|(row, trajectory)| {
            let (prompt, j) = place(branching, trajectory);
            let mut generator = branching.sampling.iteration.draws.choose(
                branching.sampling.iteration.number,
                "continue",
                &[call, prompt, j],
            );
            let k = generator.randint(candidates.len() as i64)?;
            Ok(candidates[k as usize].get(row as i64))
        })
        .collect();
    Ok(Some(Tensor::f_stack(&go_on?, 0)?))
}

/// Index of a trajectory's prompt in the file, and its number among those of the prompt.
fn place(branching: &Branching, trajectory: &Trajectory) -> (usize, usize) {
    let (prompt, j) = branching.sampling.iteration.grid.place(trajectory.index);
    (branching.sampling.iteration.prompts[prompt], j)
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
            let all = branching.sampling.iteration.grid.per_prompt * k;
            let noise = branching.sampling.iteration.draws.candidates(
                branching.sampling.iteration.number,
                call,
                prompt,
                all,
                shape,
            );
            noise.narrow(0, (j * k) as i64, k as i64)
        })
        .collect();
    let noise = Tensor::stack(&noise, 1).to_device(asked.networks.machine.device); // [k, B, C, h, w]
    (0..k as i64).map(|candidate| advance(step, &noise.get(candidate))).collect()
}

/// Ratings of the pictures of candidates `[B, C, h, w]`; `call` is the next one.
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
            return branching.sampling.pictures.rate(&x0, t, prompts).map(Some);
        }
        latents = branching.sampling.ahead.transitions(&now, &prediction, &double).mean.to_kind(Kind::Float);
        (ahead, call) = (ahead - 1, call + 1);
    }
    branching.sampling.pictures.rate(&latents, 0, prompts).map(Some)
}

/// The candidates of a trajectory for training.
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
    let kept = Ends { at, step, trajectories, rows: &rows, ends: &ends, goes_on: false }.keep(asked, rule, keeping)?;
    for (pair, kept) in found.into_iter().zip(kept) {
        let (trajectory, call) = (trajectories[pair.row].index, at.calls[pair.row]);
        let id = format!("step {call} of trajectory {trajectory}");
        let members = kept.into_iter().map(|transition| vec![transition]).collect();
        pairs.insert((trajectory, call), KeptUnit { id, members, scores: pair.scores, ..KeptUnit::default() });
    }
    Ok(())
}
