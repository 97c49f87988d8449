//! `diffpref run`: generate, score, pairs, train and eval as one cached chain. Every stage is a command of this program
//! that a user could type; a stage is skipped while its inputs are those of its last finished run.

mod inputs;
mod loops;
mod recipe;
mod run;
mod stage;
mod state;
mod steps;

pub use loops::{Loops, Own};
pub use recipe::Recipe;
pub use run::{Done, Planned, Program, plan, run, shown};
pub use stage::Stage;
pub use steps::Step;
