//! One step of two trajectories of a prompt from one noise (d3po).

use crate::rollout::advantages::Advantages;
use crate::rollout::grid::{Grid, Indices};
use crate::rollout::kept::KeptUnit;
use crate::rollout::maker::{Found, Iteration, Rewarded, UnitMaker};
use anyhow::Result;

/// Pairs of trajectories.
pub struct Trajectories;

impl UnitMaker for Trajectories {
    fn make(
        &self,
        iteration: &Iteration,
        rewarded: &Rewarded,
        found: &mut Found,
        _: &mut Option<Advantages>,
    ) -> Result<Vec<KeptUnit>> {
        Ok(units(iteration.grid, rewarded.rewards, &found.indices))
    }
}

/// Both trajectories of a prompt step by step, the better one first; a prompt with equal rewards has none.
fn units(grid: Grid, rewards: &[f64], indices: &Indices) -> Vec<KeptUnit> {
    let mut units = Vec::new();
    for prompt in 0..grid.prompts {
        let (a, b) = (grid.index(prompt, 0), grid.index(prompt, 1));
        if rewards[a] == rewards[b] {
            continue;
        }
        let (winner, loser) = if rewards[a] > rewards[b] { (a, b) } else { (b, a) };
        let steps = indices.range((winner, 0)..(winner + 1, 0));
        units.extend(steps.filter_map(|(&(_, call), &kept)| {
            let other = *indices.get(&(loser, call))?;
            Some(KeptUnit {
                id: format!("step {call} of trajectories {winner} and {loser}"),
                members: vec![vec![kept], vec![other]],
                scores: vec![rewards[winner], rewards[loser]],
                advantage: 0.0,
                group: prompt,
            })
        }));
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { prompts: 2, per_prompt: 2 };

    fn indices(calls: usize) -> Indices {
        let all = (0..GRID.len()).flat_map(|trajectory| (0..calls).map(move |call| (trajectory, call)));
        all.enumerate().map(|(kept, key)| (key, kept)).collect()
    }

    #[test]
    fn the_better_trajectory_of_a_prompt_comes_first_at_every_step_and_equal_ones_say_nothing() {
        let units = units(GRID, &[0.1, 0.4, 0.3, 0.3], &indices(3));
        assert_eq!(
            units.iter().map(|unit| unit.members.clone()).collect::<Vec<_>>(),
            [[vec![3], vec![0]], [vec![4], vec![1]], [vec![5], vec![2]]]
        );
        assert!(units.iter().all(|unit| unit.group == 0 && unit.scores == [0.4, 0.1]));
    }
}
