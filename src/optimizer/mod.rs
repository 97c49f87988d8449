//! The optimizer, one file per rule, and the average of the weights.

mod adafactor;
mod adamw;
mod ema;
mod group;
mod rate;
mod rule;
#[cfg(test)]
mod tests;

pub use ema::Ema;
pub use group::{Optimizer, state_bytes};
pub use rate::learning_rate;
