//! Held-out prompts.

/// [validate] of a method that samples.
#[derive(Debug, Clone, Default)]
pub struct HeldOut {
    pub prompts: Vec<String>,
    /// Trajectories per prompt.
    pub draws: usize,
}
