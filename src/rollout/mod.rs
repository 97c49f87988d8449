//! Rollouts of methods that sample while they train. An iteration samples trajectories with the policy, has their
//! pictures rated and keeps the units of training, which then train step by step (docs/methods.md, section 10).
//!
//! An iteration is a function of the policy's weights, its number and the seed: a signal during it costs only time.
//! Once it is sampled, a checkpoint holds the kept units, or names their files in the run folder.

mod advantages;
mod asked;
mod batch;
mod course;
mod current;
mod grid;
mod group_advantages;
mod held_out;
mod iteration;
mod kept;
mod maker;
mod makers;
mod measure;
mod measured;
mod pictures;
mod recorded;
mod report;
mod resources;
mod state;
mod trajectories;
mod units;

pub use batch::UnitBatch;
pub use course::Course;
pub use current::Rollout;
pub use resources::{Prompts, Resources, Setup};
pub use state::{BUFFER, FOLDER, State};
