//! From rated trajectories to what training reads.

use super::candidates::Pairs;
use super::kept::KeptUnit;
use super::lists::DrawnList;
use crate::objectives::advantages::Advantages;
use std::collections::BTreeMap;

/// Kept transitions by (trajectory of the iteration, call).
pub type Indices = BTreeMap<(usize, usize), usize>;

/// The trajectories of an iteration, prompt by prompt: number `prompt x per_prompt + j`.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    pub prompts: usize,
    pub per_prompt: usize,
}

impl Grid {
    pub fn index(&self, prompt: usize, j: usize) -> usize {
        prompt * self.per_prompt + j
    }

    /// Prompt and j of a trajectory's number.
    pub fn place(&self, index: usize) -> (usize, usize) {
        (index / self.per_prompt, index % self.per_prompt)
    }

    pub fn len(&self) -> usize {
        self.prompts * self.per_prompt
    }
}

/// ddpo, dpok: every transition of every trajectory, with the advantage of its reward. `prompts`: indices in the file.
pub fn of_steps(
    grid: Grid,
    prompts: &[usize],
    rewards: &[f64],
    indices: &Indices,
    advantages: &mut Advantages,
) -> Vec<KeptUnit> {
    let rewarded: Vec<(usize, f64)> =
        rewards.iter().enumerate().map(|(i, reward)| (prompts[i / grid.per_prompt], *reward)).collect();
    let advantages = advantages.of(&rewarded);
    let unit = |(&(trajectory, call), &kept): (&(usize, usize), &usize)| KeptUnit {
        id: format!("step {call} of trajectory {trajectory}"),
        members: vec![vec![kept]],
        advantage: advantages[trajectory],
        scores: Vec::new(),
        group: trajectory,
    };
    indices.iter().map(unit).collect()
}

/// d3po: both trajectories of a prompt step by step, the better one first; a prompt with equal rewards says nothing.
pub fn of_trajectories(grid: Grid, rewards: &[f64], indices: &Indices) -> Vec<KeptUnit> {
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

/// spo, tailorpo: the pairs that were made on the way, in an order of their own each.
pub fn of_candidates(pairs: Pairs) -> Vec<KeptUnit> {
    pairs.into_values().enumerate().map(|(group, unit)| KeptUnit { group, ..unit }).collect()
}

/// dense-reward: the lists that were drawn ahead; one whose trajectories are all worth the same says nothing.
pub fn of_lists(grid: Grid, rewards: &[f64], indices: &Indices, lists: &[DrawnList]) -> Vec<KeptUnit> {
    let unit = |(group, list): (usize, &DrawnList)| {
        let trajectories: Vec<usize> = list.trajectories.iter().map(|j| grid.index(list.prompt, *j)).collect();
        let members: Option<Vec<Vec<usize>>> = trajectories
            .iter()
            .map(|trajectory| list.calls.iter().map(|call| indices.get(&(*trajectory, *call)).copied()).collect())
            .collect();
        let scores: Vec<f64> = trajectories.iter().map(|trajectory| rewards[*trajectory]).collect();
        let differ = scores.iter().any(|score| *score != scores[0]);
        let id = format!("list {group} of prompt {}", list.prompt);
        members.filter(|_| differ).map(|members| KeptUnit { id, members, scores, advantage: 0.0, group })
    };
    lists.iter().enumerate().filter_map(unit).collect()
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
        let units = of_trajectories(GRID, &[0.1, 0.4, 0.3, 0.3], &indices(3));
        assert_eq!(
            units.iter().map(|unit| unit.members.clone()).collect::<Vec<_>>(),
            [[vec![3], vec![0]], [vec![4], vec![1]], [vec![5], vec![2]]]
        );
        assert!(units.iter().all(|unit| unit.group == 0 && unit.scores == [0.4, 0.1]));
    }

    #[test]
    fn a_drawn_list_reads_the_same_steps_of_each_of_its_trajectories() {
        let list = |prompt: usize, calls: &[usize]| DrawnList { prompt, trajectories: vec![1, 0], calls: calls.into() };
        let units = of_lists(GRID, &[0.1, 0.4, 0.3, 0.3], &indices(3), &[list(0, &[2, 0, 2]), list(1, &[1])]);
        assert_eq!(units.len(), 1, "the second prompt's trajectories are worth the same");
        assert_eq!(units[0].members, [vec![5, 3, 5], vec![2, 0, 2]]);
        assert_eq!(units[0].scores, [0.4, 0.1]);
    }
}
