//! Some steps, drawn in advance, of some trajectories of a prompt, with their scores, so that nothing else is kept
//! (dense-reward: docs/methods.md, section 3).

use crate::data::draws::Draws;
use crate::objectives::Lists;
use crate::rollout::advantages::Advantages;
use crate::rollout::grid::{Grid, Indices};
use crate::rollout::kept::KeptUnit;
use crate::rollout::maker::{Counts, Found, Iteration, Rewarded, UnitMaker};
use anyhow::Result;
use std::collections::BTreeSet;

/// Lists of an iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrawnLists {
    /// P and J of the iteration.
    pub prompts: usize,
    pub trajectories: usize,
    /// Calls with noise: 0 is that from x_T.
    pub calls: usize,
    pub lists: Lists,
}

/// A list for training.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawnList {
    pub prompt: usize,
    /// Trajectories of the prompt.
    pub trajectories: Vec<usize>,
    /// Calls, common to all trajectories; one may be drawn twice.
    pub calls: Vec<usize>,
}

impl DrawnLists {
    /// The `n` lists of an iteration in the order of training: passes over the prompts, each with its own order.
    pub fn draw(&self, draws: &Draws, iteration: u64, n: usize) -> Result<Vec<DrawnList>> {
        let mut order = Vec::new();
        (0..n)
            .map(|position| {
                let (pass, place) = (position / self.prompts, position % self.prompts);
                if place == 0 {
                    order = draws.choose(iteration, "order", &[pass]).randperm(self.prompts as i64)?;
                }
                let mut chosen =
                    draws.choose(iteration, "trajectories", &[position]).randperm(self.trajectories as i64)?;
                chosen.truncate(self.lists.trajectories_per_loss);
                let mut generator = draws.choose(iteration, "steps", &[position]);
                Ok(DrawnList {
                    prompt: order[place] as usize,
                    trajectories: chosen.into_iter().map(|j| j as usize).collect(),
                    calls: (0..self.lists.sampled_steps).map(|_| self.call(generator.rand_f64())).collect(),
                })
            })
            .collect()
    }

    /// k ~ Cat(gamma^k / sum) by the inverse of its distribution function at `u` in [0, 1).
    pub fn call(&self, u: f64) -> usize {
        let all: f64 = (0..self.calls).map(|k| self.lists.gamma.powi(k as i32)).sum();
        let mut below = 0.0;
        for k in 0..self.calls {
            below += self.lists.gamma.powi(k as i32) / all;
            if u < below {
                return k;
            }
        }
        self.calls - 1
    }
}

impl UnitMaker for DrawnLists {
    fn wanted(&self, iteration: &Iteration) -> Result<Option<BTreeSet<(usize, usize)>>> {
        let mut wanted = BTreeSet::new();
        for list in self.draw(&iteration.draws, iteration.number, iteration.read)? {
            for trajectory in list.trajectories.iter().map(|j| iteration.grid.index(list.prompt, *j)) {
                wanted.extend(list.calls.iter().map(|call| (trajectory, *call)));
            }
        }
        Ok(Some(wanted))
    }

    fn make(
        &self,
        iteration: &Iteration,
        rewarded: &Rewarded,
        found: &mut Found,
        _: &mut Option<Advantages>,
    ) -> Result<Vec<KeptUnit>> {
        let lists = self.draw(&iteration.draws, iteration.number, iteration.read)?;
        Ok(units(iteration.grid, rewarded.rewards, &found.indices, &lists))
    }

    fn rows(&self, counts: &Counts) -> u64 {
        let drawn = counts.read.saturating_mul((self.lists.trajectories_per_loss * self.lists.sampled_steps) as u64);
        counts.whole().min(drawn.saturating_mul(2 + counts.beside))
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

/// The lists drawn in advance, without those of equal ratings.
fn units(grid: Grid, rewards: &[f64], indices: &Indices, lists: &[DrawnList]) -> Vec<KeptUnit> {
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
    use pipelines::LevelRange;

    const LAW: DrawnLists = DrawnLists {
        prompts: 3,
        trajectories: 5,
        calls: 10,
        lists: Lists { gamma: 0.9, sampled_steps: 3, trajectories_per_loss: 2 },
    };

    #[test]
    fn early_steps_are_drawn_oftener_as_the_discount_says() {
        let all: f64 = (0..10).map(|k| 0.9f64.powi(k)).sum();
        let n = 10_000;
        let share =
            |k: usize| (0..n).filter(|i| LAW.call((*i as f64 + 0.5) / f64::from(n)) == k).count() as f64 / f64::from(n);
        for k in 0..10 {
            assert!((share(k) - 0.9f64.powi(k as i32) / all).abs() < 1e-3, "{k}: {}", share(k));
        }
        assert_eq!((LAW.call(0.0), LAW.call(1.0 - 1e-16)), (0, 9));
    }

    #[test]
    fn every_prompt_comes_once_a_pass_and_trajectories_of_a_list_differ() {
        let draws = Draws { seed: 1, draws_per_pair: 0, range: LevelRange::Steps(1000) };
        let lists = LAW.draw(&draws, 4, 7).unwrap();
        let mut first: Vec<usize> = lists[..3].iter().map(|list| list.prompt).collect();
        first.sort();
        assert_eq!(first, [0, 1, 2]);
        assert!(lists.iter().all(|list| list.trajectories[0] != list.trajectories[1] && list.calls.len() == 3));
        assert_eq!(lists, LAW.draw(&draws, 4, 7).unwrap());
        assert_ne!(lists, LAW.draw(&draws, 5, 7).unwrap());
    }

    const GRID: Grid = Grid { prompts: 2, per_prompt: 2 };

    fn indices(calls: usize) -> Indices {
        let all = (0..GRID.len()).flat_map(|trajectory| (0..calls).map(move |call| (trajectory, call)));
        all.enumerate().map(|(kept, key)| (key, kept)).collect()
    }

    #[test]
    fn a_drawn_list_reads_the_same_steps_of_each_of_its_trajectories() {
        let list = |prompt: usize, calls: &[usize]| DrawnList { prompt, trajectories: vec![1, 0], calls: calls.into() };
        let units = units(GRID, &[0.1, 0.4, 0.3, 0.3], &indices(3), &[list(0, &[2, 0, 2]), list(1, &[1])]);
        assert_eq!(units.len(), 1, "the second prompt's trajectories are worth the same");
        assert_eq!(units[0].members, [vec![5, 3, 5], vec![2, 0, 2]]);
        assert_eq!(units[0].scores, [0.4, 0.1]);
    }
}
