//! Inputs of a run besides its settings.

use crate::progress::{Progress, Stop};
use crate::world::World;

/// Processes, progress sink and stop signal of a run.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    pub world: &'a dyn World,
    pub progress: &'a dyn Progress,
    pub stop: &'a Stop,
}
