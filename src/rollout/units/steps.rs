//! Single transitions with the advantage of their picture (ddpo, dpok).

use crate::rollout::advantages::Advantages;
use crate::rollout::grid::{Grid, Indices};
use crate::rollout::kept::KeptUnit;
use crate::rollout::maker::{Found, Iteration, Rewarded, UnitMaker};
use anyhow::{Context, Result};

/// Every transition of every trajectory.
pub struct Steps {
    /// Number of rewards per prompt behind the advantages.
    pub buffer: usize,
}

impl UnitMaker for Steps {
    fn make(
        &self,
        iteration: &Iteration,
        rewarded: &Rewarded,
        found: &mut Found,
        advantages: &mut Option<Advantages>,
    ) -> Result<Vec<KeptUnit>> {
        let advantages = advantages.as_mut().context("the method has no advantages")?;
        Ok(units(iteration.grid, iteration.prompts, rewarded.rewards, &found.indices, advantages))
    }

    fn advantages(&self) -> Option<Advantages> {
        Some(Advantages::new(self.buffer.max(1)))
    }
}

/// Every transition of every trajectory with the advantage of its reward. `prompts`: indices in the file.
fn units(
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
