//! The optimizer, one file per rule, and the average of the weights.

mod adafactor;
mod adamw;
mod adamw8bit;
mod ema;
mod group;
mod rate;
mod rule;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_8bit;

pub use ema::Ema;
pub use group::{Optimizer, state_bytes};
pub use rate::learning_rate;
