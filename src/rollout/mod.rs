//! The rollout machine of methods that sample while they train: an iteration samples trajectories with the policy, has
//! their pictures rated, keeps what training reads, and is then trained on, step by step (docs/methods.md, section 10).
//!
//! An iteration is a function of the policy's weights, its number and the seed: a signal amid it loses nothing but time.
//! Once it is sampled, a checkpoint holds what it kept, or names the files of the run folder that do.

mod advantages;
mod asked;
mod batch;
mod course;
mod current;
mod grid;
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
