//! The maker of each kind of unit.

use super::maker::UnitMaker;
use super::units::{DrawnLists, GroupedSteps, Steps, Trajectories};
use crate::objectives::Units;
use crate::settings::Trajectories as Sampled;

/// The maker of a method's units. `noisy`: number of sampler calls with noise.
pub fn open(units: Units, prompts: usize, sampled: &Sampled, noisy: usize) -> Box<dyn UnitMaker> {
    match units {
        Units::Steps { buffer } => Box::new(Steps { buffer }),
        Units::Trajectories => Box::new(Trajectories),
        Units::Candidates(candidates) => Box::new(candidates),
        Units::Groups(groups) => Box::new(GroupedSteps { groups, calls: sampled.steps as usize, noisy }),
        Units::Lists(lists) => {
            Box::new(DrawnLists { prompts, trajectories: sampled.trajectories, calls: noisy, lists })
        }
    }
}
