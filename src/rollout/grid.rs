//! Trajectories of an iteration, and the store of their transitions.

use std::collections::BTreeMap;
use tch::Tensor;

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
