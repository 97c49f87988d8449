//! Numbers of a run, as training writes them and reports read them.

mod numbers;

pub use numbers::{interval, mean, put, wins};
