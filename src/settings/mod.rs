//! One run's configuration: TOML in ([`load`]), checked as it is written ([`Parsed`]), resolved by model and data, typed
//! values out ([`Settings`]).

mod changes;
mod combinations;
mod described;
mod document;
mod facts;
mod parsed;
mod place;
mod resolve;
mod resolved;
mod rollouts;
mod scorers;
mod source;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod written;

pub use changes::{Change, Difference, changes, differences};
pub use described::Described;
pub use document::{load, overridden};
pub use facts::Facts;
pub use parsed::{Parsed, Validate};
pub use place::Place;
pub use resolved::Settings;
pub use source::Source;
pub use tables::data::{Crop, DataConfig, Items};
pub use tables::lora::LoraConfig;
pub use tables::model::ModelConfig;
pub use tables::optim::{LrScale, OptimConfig, RuleConfig, Schedule};
pub use tables::reference::{Ledger, Updates};
pub use tables::rollout::{Buffer, Prompts, RolloutConfig, Trajectories};
pub use tables::sample::SampleConfig;
pub use tables::timesteps::TimestepWeighting;
pub use tables::train::{OnSpike, PairSplit, TrainConfig};
pub use tables::validate::{HeldOut, HeldOutItems};
