//! dense-reward: which steps of which trajectories the updates of an iteration will read, drawn ahead, so that nothing
//! else is kept (docs/methods.md, section 3).

use crate::data::draws::Draws;
use anyhow::Result;

/// How lists are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ListLaw {
    /// P and J of the iteration.
    pub prompts: usize,
    pub trajectories: usize,
    pub trajectories_per_loss: usize,
    /// Calls that add noise: 0 is that from x_T.
    pub calls: usize,
    pub gamma: f64,
    pub sampled_steps: usize,
}

/// A list that will be trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawnList {
    pub prompt: usize,
    /// Trajectories of the prompt.
    pub trajectories: Vec<usize>,
    /// Calls, the same for every trajectory; one may be drawn twice.
    pub calls: Vec<usize>,
}

impl ListLaw {
    /// The `n` lists of an iteration in the order of training: prompts in passes, each in an order of its own.
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
                chosen.truncate(self.trajectories_per_loss);
                let mut generator = draws.choose(iteration, "steps", &[position]);
                Ok(DrawnList {
                    prompt: order[place] as usize,
                    trajectories: chosen.into_iter().map(|j| j as usize).collect(),
                    calls: (0..self.sampled_steps).map(|_| self.call(generator.rand_f64())).collect(),
                })
            })
            .collect()
    }

    /// k ~ Cat(gamma^k / sum) by the inverse of its distribution function at `u` in [0, 1).
    pub fn call(&self, u: f64) -> usize {
        let all: f64 = (0..self.calls).map(|k| self.gamma.powi(k as i32)).sum();
        let mut below = 0.0;
        for k in 0..self.calls {
            below += self.gamma.powi(k as i32) / all;
            if u < below {
                return k;
            }
        }
        self.calls - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::LevelRange;

    const LAW: ListLaw =
        ListLaw { prompts: 3, trajectories: 5, trajectories_per_loss: 2, calls: 10, gamma: 0.9, sampled_steps: 3 };

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
}
