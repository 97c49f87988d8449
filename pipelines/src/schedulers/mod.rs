//! Noise schedules and samplers. A sampler is one file here and one line in `registry.rs`; training needs only
//! [`NoiseSchedule`].

pub mod config;
pub mod ddim;
mod discrete;
pub mod dpmpp_2m;
pub mod euler;
pub mod euler_a;
pub mod pndm;
mod prediction;
mod registry;
mod sampler;
mod schedule;
mod sigmas;
mod spacing;
mod stochastic;

pub use config::{BetaSchedule, PredictionType, SchedulerConfig, TimestepSpacing};
pub use ddim::Ddim;
pub use dpmpp_2m::DpmSolverPlusPlus;
pub use euler::Euler;
pub use euler_a::EulerAncestral;
pub use pndm::Pndm;
pub use prediction::Estimate;
pub use registry::{SCHEDULERS, scheduler_names, those_with};
pub use sampler::{Prediction, Sampler, SamplerOptions, Scheduler};
pub use schedule::NoiseSchedule;
pub use sigmas::SigmaGrid;
pub use stochastic::{StochasticSampler, Transitions, log_prob};
