//! Numbers of runs and evaluations, as commands write them and reports read them.

pub mod evaluation;
mod numbers;

pub use numbers::{put, wins};
