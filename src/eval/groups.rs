//! The pictures of an evaluation, and the groups of prompts for means.

use super::prompts::Prompt;
use crate::metrics::evaluation::{ALL, HELD_OUT};

/// Largest number of pictures per prompt.
pub const MOST_SEEDS: u64 = 1000;

/// One picture per model: a prompt by its index, and a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub prompt: usize,
    pub seed: u64,
}

impl Cell {
    /// Seed of the picture's noise. No two prompts share one: what a seed decides would otherwise be the same for all
    /// prompts, and many pictures would count as few.
    pub fn noise_seed(&self) -> u64 {
        self.prompt as u64 * MOST_SEEDS + self.seed
    }

    /// Name of the picture's file.
    pub fn file(&self) -> String {
        format!("{:04}-{}.png", self.prompt, self.seed)
    }
}

/// Prompts of a mean, with equally many pictures each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptGroup {
    pub name: &'static str,
    /// Indices of its prompts.
    pub prompts: Vec<usize>,
    /// Number of pictures per prompt that count, from seed 0 on.
    pub seeds: u64,
}

/// The held-out prompts, if only some are held out, and all prompts. `seeds`: pictures per held-out prompt, or per
/// prompt if none is held out; `other_seeds`: pictures per prompt that is not held out.
pub fn groups(prompts: &[Prompt], seeds: u64, other_seeds: u64) -> Vec<PromptGroup> {
    let held_out: Vec<usize> = (0..prompts.len()).filter(|index| prompts[*index].held_out).collect();
    let all = |seeds| PromptGroup { name: ALL, prompts: (0..prompts.len()).collect(), seeds };
    match held_out.len() {
        none_or_all if none_or_all == 0 || none_or_all == prompts.len() => vec![all(seeds)],
        _ => {
            vec![PromptGroup { name: HELD_OUT, prompts: held_out, seeds }, all(seeds.min(other_seeds))]
        }
    }
}

/// Every picture of a model, once.
pub fn plan(prompts: &[Prompt], seeds: u64, other_seeds: u64) -> Vec<Cell> {
    let none_held_out = prompts.iter().all(|prompt| !prompt.held_out);
    let count = |prompt: &Prompt| if prompt.held_out || none_held_out { seeds } else { other_seeds };
    let cells = |(index, prompt): (usize, &Prompt)| (0..count(prompt)).map(move |seed| Cell { prompt: index, seed });
    prompts.iter().enumerate().flat_map(cells).collect()
}
