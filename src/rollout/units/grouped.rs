//! Transitions with the advantage of their picture over the prompt's other pictures of the iteration (grpo).

use crate::data::draws::Draws;
use crate::objectives::Groups;
use crate::rollout::advantages::Advantages;
use crate::rollout::grid::{Grid, Indices};
use crate::rollout::group_advantages::{advantages, unlikely};
use crate::rollout::kept::{Kept, KeptUnit};
use crate::rollout::maker::{Counts, Found, Iteration, Rewarded, UnitMaker};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

/// A drawn part of the transitions of every trajectory.
pub struct GroupedSteps {
    pub groups: Groups,
    /// Calls of the sampler.
    pub calls: usize,
    /// First calls, which add noise; the last one may not.
    pub noisy: usize,
}

impl GroupedSteps {
    /// Calls that may be trained: with noise, and not among the last ones.
    fn trainable(&self) -> usize {
        self.noisy.min(self.calls.saturating_sub(self.groups.skip_last))
    }

    /// Trained calls per trajectory: at least one.
    fn trained(&self) -> usize {
        let share = self.groups.timestep_fraction * self.trainable() as f64;
        // 0.6 x 5 is 3, and a little less in binary.
        ((share + 1e-9).floor() as usize).max(1)
    }

    /// The trained transitions `(trajectory, call)`: the first ones of a random order of each trajectory's.
    fn drawn(&self, draws: &Draws, iteration: &Iteration) -> Result<BTreeSet<(usize, usize)>> {
        let mut drawn = BTreeSet::new();
        for trajectory in 0..iteration.grid.len() {
            let (prompt, j) = iteration.grid.place(trajectory);
            let mut order = draws.choose(iteration.number, "steps", &[iteration.prompts[prompt], j]);
            let order = order.randperm(self.trainable() as i64)?;
            drawn.extend(order.into_iter().take(self.trained()).map(|call| (trajectory, call as usize)));
        }
        Ok(drawn)
    }

    /// Rewards of every scorer where likely pictures lose some, `[scorers][trajectories]`.
    fn lowered(&self, grid: Grid, each: &[Vec<f64>], kept: &[Kept], indices: &Indices) -> Result<Vec<Vec<f64>>> {
        let mut log_probs = vec![0.0; grid.len()];
        indices.iter().for_each(|((trajectory, _), index)| log_probs[*trajectory] += kept[*index].log_prob);
        let lower = |rewards: &Vec<f64>| {
            within_unit("method.unlikeliness", rewards)?;
            Ok(unlikely(self.groups.unlikeliness, grid.per_prompt, rewards, &log_probs))
        };
        each.iter().map(lower).collect()
    }
}

/// Both are defined for rewards in [0, 1].
fn within_unit(key: &str, rewards: &[f64]) -> Result<()> {
    let outside = rewards.iter().find(|r| !(0.0..=1.0).contains(*r));
    ensure!(
        outside.is_none(),
        "{key} takes rewards in [0, 1], and a picture has {}. Take scorers with that range, or remove the key",
        outside.unwrap_or(&f64::NAN)
    );
    Ok(())
}

impl UnitMaker for GroupedSteps {
    fn wanted(&self, iteration: &Iteration) -> Result<Option<BTreeSet<(usize, usize)>>> {
        // The probability of a whole trajectory takes all of its steps.
        match self.groups.unlikeliness > 0.0 {
            true => Ok(None),
            false => self.drawn(&iteration.draws, iteration).map(Some),
        }
    }

    fn make(
        &self,
        iteration: &Iteration,
        rewarded: &Rewarded,
        found: &mut Found,
        _: &mut Option<Advantages>,
    ) -> Result<Vec<KeptUnit>> {
        let grid = iteration.grid;
        if self.groups.mixed_advantage {
            rewarded.each.iter().try_for_each(|rewards| within_unit("method.mixed_advantage", rewards))?;
        }
        let each = match self.groups.unlikeliness > 0.0 {
            true => self.lowered(grid, rewarded.each, &found.keeping.kept, &found.indices)?,
            false => rewarded.each.to_vec(),
        };
        let advantages = advantages(&self.groups, grid.per_prompt, &each, rewarded.weights);
        let idle = (0..grid.prompts).filter(|prompt| advantages[grid.index(*prompt, 0)].is_none());
        found.idle_groups = Some(idle.count() as u64);
        let unit = |(trajectory, call): (usize, usize)| {
            Some(KeptUnit {
                id: format!("step {call} of trajectory {trajectory}"),
                members: vec![vec![*found.indices.get(&(trajectory, call))?]],
                advantage: advantages[trajectory]?,
                scores: Vec::new(),
                group: trajectory,
            })
        };
        Ok(self.drawn(&iteration.draws, iteration)?.into_iter().filter_map(unit).collect())
    }

    fn rows(&self, counts: &Counts) -> u64 {
        let drawn = counts.trajectories * self.trained() as u64 * (2 + counts.beside);
        if self.groups.unlikeliness > 0.0 { counts.whole() } else { counts.whole().min(drawn) }
    }
}
