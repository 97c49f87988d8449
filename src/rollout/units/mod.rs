//! Kinds of units: one file each.

mod candidates;
mod grouped;
mod lists;
mod steps;
mod trajectories;

pub use grouped::GroupedSteps;
pub use lists::DrawnLists;
pub use steps::Steps;
pub use trajectories::Trajectories;
